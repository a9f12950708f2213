"""The staged canary: the candidate gets a growing share of the live requests, a step at a time, while gates watch it.

plan        steps, limits and approvals
rules       how one step leads to the next
spans       when the edge gave the candidate which share
timeline    from the audit of a release to its spans
"""
