"""Is this machine healthy and as fast as it should be? limits → probes → judge; a check works with an `attempt`."""
