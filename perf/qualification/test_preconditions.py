"""Is this machine free of other work, and set up correctly for measurements?"""

import contextlib

import pytest
import torch

from perf.harness.machine import load
from perf.harness.machine.telemetry.source import Unreadable
from perf.harness.measurement.checks import configuration, faults
from perf.harness.measurement.checks.attempt import Attempt

LOOK_S = 2.0


@pytest.mark.check(
    cpu=("load", "load between", "load after"),
    accelerator=(
        "load",
        "configuration",
        "load between",
        "configuration between",
        "load after",
        "configuration after",
    ),
    seconds=2,
)
def test_preconditions(check: Attempt) -> None:
    """Whether other programs load the machine, and whether a GPU's settings are right.

    `load`: the cores that other programs, the hypervisor or the container's quota take while this process waits
    [cores]. More than 5% of the cores is INCONCLUSIVE, not a FAIL: a check that is slow now may be fast on a free
    machine. Less, if one busy core, which is planted once when the run begins, slows matrix products so much.

    `configuration`: the number of wrong settings of a GPU at work [settings]. There must be none. These are wrong: a
    power limit below the default, a PCIe link of an older generation than device and slot allow, and ECC that is off,
    unless the maker's default is off. These are INCONCLUSIVE: a PCIe link with fewer lanes than the GPU says are
    possible, as some boards wire fewer; and a GPU on which other processes compute.

    Both run again `between` the other checks, and `after` all of them, to find a load that came meanwhile, or a link
    that failed under load. They run in every qualification, whatever checks are selected.
    """
    if check.variant.startswith("configuration"):
        configuration_of(check)
        return
    with faults.foreign_load(torch.get_num_threads()) if check.fault == "load" else contextlib.nullcontext():
        found = load.look(LOOK_S)
    if found.others_cores is None:
        check.unsupported("this system does not say how busy its cores are")
        return
    # The kernel counts hundredths of a second; a trillionth of a core is what is left of a subtraction.
    missing = round(found.others_cores + (found.withheld_cores or 0.0), 4)
    most = check.allowed
    if missing > most.cores:
        check.unclear(f"others take {missing:.1f} cores", missing, "cores", most.cores, most.source)
    else:
        check.at_most(missing, "cores", most.cores, most.source)


def configuration_of(check: Attempt) -> None:
    try:
        found = configuration.at_work(check.device)
    except Unreadable as error:
        check.unsupported(str(error))
        return
    wrong = configuration.problems(found, check.device_name)
    if others := found.get("other_processes", 0):
        check.unclear(f"used by {others} other process{'es' * (others > 1)}", others, "processes")
    elif not wrong and (doubt := configuration.doubt(found, check.device_name)):
        check.unclear(doubt, 1, "settings")
    else:
        check.at_most(len(wrong), "settings", 0, "the default, and what device and slot allow", "; ".join(wrong))
