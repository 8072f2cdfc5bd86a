"""Does the device compute what it should?"""

import pytest
from torch import Tensor

from perf.harness.measurement.checks import exact, faults
from perf.harness.measurement.checks.attempt import Attempt

EXPONENT_BIT = {"fp32": 27, "bf16": 11, "fp16": 12}


@pytest.mark.check(cpu=("fp32", "bf16"), accelerator=("fp32", "bf16", "fp16"), seconds=4)
def test_numerics(check: Attempt) -> None:
    """The largest error of any element, forward and backward, of the operations of a network's step and of a network,
    relative to the exact element or to the root mean square of all, in units of eps (of a sum of K random terms it
    grows as √K). Of all operations, the one that comes closest to its bar.

    Held against the CPU in float64, from the same rounded operands; each operation and dtype has a bar of its own. An
    element that is not finite fails by itself.
    """

    def flip(result: Tensor) -> None:
        if check.fault == "nan":
            result.data[3, 5] = float("nan")
        elif check.fault == "bitflip":
            faults.flip_bit(result.data, 12_345, EXPONENT_BIT[check.variant])

    found = exact.accuracies(check.device.torch_device, check.variant, check.plan.settings.seed, flip)
    if bad := [one for one in found if one.bad]:
        elements = ", ".join(f"{one.bad} of {one.elements:,} elements of {one.name}" for one in bad)
        check.fail(f"not finite: {elements}", sum(one.bad for one in bad), "elements")
        return
    worst = max(found, key=lambda one: one.error / one.bar)
    source = f"{worst.name}: four times the largest error seen on healthy CPUs, 16 eps at least"
    check.at_most(worst.error, "eps", worst.bar, source)
