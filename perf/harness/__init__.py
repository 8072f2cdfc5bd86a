"""workload → measurement → record → statistics → verdict → report; CONTRIBUTING.md shows the way through."""
