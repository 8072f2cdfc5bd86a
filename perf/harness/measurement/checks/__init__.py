"""The hardware checks: the probes, the faults that can be planted, and how one check says its result."""
