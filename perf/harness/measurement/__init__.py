"""Everything that measures: timed rounds, phases, memory, probes, parity runs, and two versions side by side."""
