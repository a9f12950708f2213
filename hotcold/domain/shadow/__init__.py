"""A candidate compared with the champion on the same requests, whether these are copied to it or scored anew from the log.

limits        what a comparison tolerates
pairs         answers of both sides to the same requests, as arrays
repeats       request ids that are there more than once
counting      from pairs to counts, a window at a time
comparison    what has been counted: integers that add up
judgement     gates, and what they rest on
summary       from counts and gates to the report
report        what was found, for people: the verdict, why, and the numbers
by_request    figures that count every request, where they differ from those by entity
calibration   how often what was predicted came true
wording       the report in words
tables        the report in rows
report_json   the report for programs
"""
