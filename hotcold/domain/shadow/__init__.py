"""A candidate compared with the champion on the same requests, whether these are copied to it or scored anew from the log.

What each module has:

    limits       what a comparison tolerates
    report       what it found, for people: the verdict, why, and the numbers
    wording      the report in whole sentences
    tables       its numbers as tables, for a page of any kind
    report_json  the report for programs
"""
