"""Is this machine free to be measured?"""

import contextlib

import pytest
import torch

from perf.harness.qualify import faults, host
from perf.harness.qualify.attempt import Attempt
from perf.harness.qualify.judge import BUSY_CORES

LOOK_S = 2.0


@pytest.mark.check(seconds=3)
def test_preconditions(check: Attempt) -> None:
    """The cores that are not there for us: kept busy by other programs or by the hypervisor, or withheld by the
    container's quota, while this process waits [cores].

    More than a tenth of a core is INCONCLUSIVE, and no FAIL: what is slow here may be fast when the machine is free.
    """
    with faults.foreign_load(torch.get_num_threads()) if check.fault == "load" else contextlib.nullcontext():
        load = host.look(LOOK_S)
    if load.others_cores is None:
        check.unsupported("this system does not say how busy its cores are")
        return
    missing = load.others_cores + (load.withheld_cores or 0.0)
    if missing > BUSY_CORES:
        check.unclear(f"{missing:.1f} cores are busy with something else", missing, "cores")
    else:
        check.at_most(missing, "cores", BUSY_CORES, "more, and a slow result says nothing")
