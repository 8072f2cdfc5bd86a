"""Loads Stepwatch's pytest plugin; everything else is in `perf/harness/plugin/`."""

pytest_plugins = ["perf.harness.plugin.importable", "perf.harness.plugin.hooks"]
