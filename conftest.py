"""Load Stepwatch's pytest plugin, whose code is in `perf/harness/plugin/`."""

pytest_plugins = ["perf.harness.plugin.importable", "perf.harness.plugin.hooks"]
