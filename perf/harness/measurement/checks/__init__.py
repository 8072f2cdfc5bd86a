"""The hardware checks: the probes, the faults that can be planted, and how a check reports its result."""
