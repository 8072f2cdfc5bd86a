"""What a benchmark runs: its definition, its axes, its network and data, and the mode that the step runs in."""
