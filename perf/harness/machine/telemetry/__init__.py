"""Telemetry: the state of the devices and the host, sampled once a second while the benchmarks run."""
