"""Numbers in, verdicts out: no torch, no pytest, no clock, no disk."""
