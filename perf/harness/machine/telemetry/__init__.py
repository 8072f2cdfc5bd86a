"""Once a second, beside the benchmarks: what the devices and the host do. Sources, sampler, samples, summaries."""
