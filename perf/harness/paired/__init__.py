"""In: two sides, base and head. Out: the rounds that `gate` decides on, measured in fresh pairs of worker processes.

sides (what is measured, with which Python) → link (the parent's end of one worker) → schedule (launches, rounds,
looks); in the worker: worker (its main loop) → subject (what a step is) → visit (its clock).
"""
