"""In: numbers. Out: verdicts. `verdict` has the words, `paired` the rule for side-by-side launches, `stored` the rule
for a run against earlier runs. No torch, no pytest, no clock, no disk.
"""
