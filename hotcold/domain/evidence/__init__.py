"""What observations say about a release, valid at whatever moment somebody looks.

Each module has one idea: counts that add up (the state, integers only, `merge` is addition) and a test that judges them. A
test gives `log_harm` (evidence against "no harm"), `log_safe` (evidence against "as bad as is tolerated, or worse"), the cheap
`verdict`, and `judge`, which adds the effect, bounds, a forecast and a sentence. The evidence is the logarithm of an e-value:
the gain of a bet that is fair if the null hypothesis holds. By Ville's inequality such a gain ever reaches 1 / alpha with a
probability of alpha at most, however often one looks, so HARM and SAFE are each wrong in at most alpha of all releases.

What counts as one observation is the caller's matter, and decides about everything: it has to be independent of the others,
given what came before, and final when it is counted. An entity fails once in a release, and comes to a side once. Of latencies,
one answer counts for each entity, and for each second and side; or a closed second counts once, with the share of its answers
that were slow. A pair counts once for each entity, or a closed second once with the mean of its pairs.

    arguments, crossing         shared checks, and where a monotone function crosses a line
    split_counts                integers by side and by the candidate's share
    latency_counts              integers by bin
    value_counts                integers for values in [-1, 1], on a grid that keeps their mean
    split_values                the same by side and by the candidate's share
    odds_mixture, beta_mixture  the two e-processes for yes-or-no observations
    quantile_evidence, bets     the e-processes for a quantile and for a mean
    error_ratio                 does the candidate fail more often than the champion?
    exceedance                  is a share above what is allowed: slow answers, failures?
    quantile_bounds             is a latency quantile above the champion's?
    paired_mean, flips          do scores, decisions or losses differ by more than is tolerated?
    randomised_mean             the same where each entity is on one side, by a draw
    discordant                  on late labels, who is right where the two disagree?
    sample_ratio                does traffic arrive as the split says? If not, nothing above means anything
    multiplicity                which of many segments stand out
    drift, score_spread         how far scores moved, and whether they vary at all; no statistics
    forecast                    how many more observations until it can be told
    finding                     what a test says
"""
