"""Does the device compute correct results?"""

import pytest
from torch import Tensor

from perf.harness.measurement.checks import exact, faults
from perf.harness.measurement.checks.attempt import Attempt

EXPONENT_BIT = {"fp32": 27, "bf16": 11, "fp16": 12}


@pytest.mark.check(cpu=("fp32", "bf16"), accelerator=("fp32", "bf16", "fp16"), seconds=4)
def test_numerics(check: Attempt) -> None:
    """The largest error of an element, in units of eps, of the operation that comes closest to its bar [eps].

    It looks at the operations of a training step and at a whole network, forward and backward. The error is against the
    CPU in float64 from the same rounded operands, relative to the exact element or to the root mean square of all. It
    grows as √K for a sum of K random terms, so each operation and dtype has a bar of its own. An element that is not
    finite is a FAIL.
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
    source = f"{worst.name}: four times the largest error seen on healthy CPUs, at least 16 eps"
    check.at_most(worst.error, "eps", worst.bar, source)
