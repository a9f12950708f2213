"""The staged canary: the candidate gets a growing share of the live requests, a step at a time, while gates watch it.

plan        steps, limits and approvals
rules       how one step leads to the next
spans       when the edge gave the candidate which share
timeline    from the audit of a release to its spans
limits      what is tolerated beyond the limits of a shadow comparison
counts      what was counted of served answers: integers that add up
counting    from answers to counts, a window at a time
judgement   gates, and what they rest on
limits      what is tolerated beyond the limits of a shadow comparison
forecast    how long a step takes until a rise of errors is told
"""
