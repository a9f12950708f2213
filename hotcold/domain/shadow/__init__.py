"""A candidate compared with the champion on the same requests, whether these are copied to it or scored anew from the log.

limits      what a comparison tolerates
report      what it found, for people: the verdict, why, and the numbers
"""
