"""How many steps does the reference program need to 80% accuracy? Prints the convergence check's reference as JSON.

    python perf/proof/convergence.py digits 20

This command trains with 20 seeds (1000, 1001, …) on the CPU, with the samples of `--perf-profile=qualify`.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

import data
from perf.harness.machine.identity import cpu_model
from perf.harness.measurement.checks import learning
from perf.harness.options import resolve
from perf.harness.workload.plan import Plan
from perf.proof.usage import parser, positive

FIRST_SEED = 1_000


def main(name: str, count: int) -> None:
    options = {"device": "cpu", "data": name, "profile": "qualify"}
    plan = Plan.of(resolve(options, {}, "", Path(data.__file__).resolve().parent)).prepared()
    work = plan.workload("cpu", 64, "resident")
    steps = learning.steps_to_target(work, range(FIRST_SEED, FIRST_SEED + count))
    source = f"the median of {count} seeds on {cpu_model()}, torch {torch.__version__}"
    print(json.dumps({f"{work.recipe.name} on {work.data.name}": {"source": source, "steps": steps}}, indent=1))


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("name", metavar="DATA", choices=data.NAMES)
    arguments.add_argument("count", metavar="SEEDS", type=positive)
    main(**vars(arguments.parse_args()))
