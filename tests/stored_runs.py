"""Records of runs as they lie in the storage, made from one document by scaling its times."""

import copy
import json

NAMES = ("training_step[cpu-bs64]", "epoch[cpu-bs64-resident]")
FINGERPRINT = {"cpu_model": "EPYC", "threads": 2, "torch": "2.15.0", "profile": "standard"}


def full(name):
    return f"perf/test_{name.split('[')[0]}.py::test_{name}"


def benchmark(name, seconds):
    return {
        "name": f"test_{name}",
        "fullname": full(name),
        "group": name.split("[")[0],
        "extra_info": {},
        "stats": {"data": [seconds] * 3, "median": seconds, "rounds": 3, "iterations": 1},
    }


def record(factor=1.0, names=NAMES, number=0, **perf):
    """One whole run, `factor` times as slow as the first, made on day `number`."""
    return {
        "datetime": f"2026-11-{number + 1:02}T10:00:00+00:00",
        "commit_info": {"id": f"{number + 1:x}" * 40, "dirty": False},
        "machine_info": {"node": "box"},
        "benchmarks": [benchmark(name, 1e-3 * factor) for name in names],
        "perf": {
            "schema_version": 1,
            "complete": True,
            "unfit": [],
            "fingerprint": FINGERPRINT,
            "fingerprint_id": "standard-1234",
            "host_name": "box",
            "profile": "standard",
            "cases": [{"name": full(name), "outcome": "measured", "reason": ""} for name in names],
            **perf,
        },
    }


def write(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def scaled(document, factor, only=""):
    """`document` with the times of the benchmarks that have `only` in their names multiplied."""
    made = copy.deepcopy(document)
    for entry in made["benchmarks"]:
        if only in entry["name"]:
            stats = entry["stats"]
            stats["data"] = [factor * value for value in stats["data"]]
            for key in ("min", "max", "mean", "median", "q1", "q3"):
                if key in stats:
                    stats[key] *= factor
    return made
