"""Loads Stepwatch's pytest plugin; everything else is in `perf/harness/plugin.py`."""

pytest_plugins = ["perf.harness.plugin"]
