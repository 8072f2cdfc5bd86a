"""Is this machine free to be measured?"""

import contextlib

import pytest
import torch

from perf.harness.machine import load
from perf.harness.machine.telemetry.source import Unreadable
from perf.harness.measurement.checks import configuration, faults
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.record.check import BUSY_CORES

LOOK_S = 2.0


@pytest.mark.check(
    cpu=("load", "load after"),
    accelerator=("load", "configuration", "load after", "configuration after"),
    seconds=3,
)
def test_preconditions(check: Attempt) -> None:
    """`load`: the cores that are not there for us: kept busy by other programs or by the hypervisor, or withheld by the
    container's quota, while this process waits [cores].

    More than a tenth of a core is INCONCLUSIVE, and no FAIL: what is slow here may be fast when the machine is free. So
    is a GPU on which other processes compute.

    `configuration`: of a GPU at work, what is set otherwise than it could be: a power limit below the default, a PCIe
    link with fewer lanes or of an older generation than device and slot have, ECC switched off. None may be.

    Both are looked at again `after` all other checks: a load that came in between, a link that broke down under it.
    """
    if check.variant.startswith("configuration"):
        configuration_of(check)
        return
    with faults.foreign_load(torch.get_num_threads()) if check.fault == "load" else contextlib.nullcontext():
        found = load.look(LOOK_S)
    if found.others_cores is None:
        check.unsupported("this system does not say how busy its cores are")
        return
    missing = found.others_cores + (found.withheld_cores or 0.0)
    if missing > BUSY_CORES:
        check.unclear(f"{missing:.1f} cores are busy with something else", missing, "cores", BUSY_CORES)
    else:
        check.at_most(missing, "cores", BUSY_CORES, "where more are busy, a slow result says nothing of the machine")


def configuration_of(check: Attempt) -> None:
    try:
        found = configuration.at_work(check.device)
    except Unreadable as error:
        check.unsupported(str(error))
        return
    wrong = configuration.problems(found, check.device_name)
    if others := found.get("other_processes", 0):
        check.unclear(f"{others} other process{'es' * (others > 1)} on it", others, "processes")
    else:
        check.at_most(len(wrong), "settings", 0, "as the device and its slot allow", "; ".join(wrong))
