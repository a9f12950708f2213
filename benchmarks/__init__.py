"""Benchmarks: each prints a table, and writes `var/bench/<name>.json`. Figures are ratios or durations of one run."""
