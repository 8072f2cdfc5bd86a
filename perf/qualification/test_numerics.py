"""Does the device compute correct results?"""

import pytest
from torch import Tensor

from perf.harness.measurement.checks import exact, faults
from perf.harness.measurement.checks.attempt import Attempt

EXPONENT_BIT = {"fp32": 27, "bf16": 11, "fp16": 12}


@pytest.mark.check(cpu=("fp32", "bf16"), accelerator=("fp32", "bf16", "fp16"), seconds=1)
def test_numerics(check: Attempt) -> None:
    """The largest error of an element, for the operation whose error is closest to its bar [eps].

    The check computes the operations of a training step and a whole network, forward and backward. The exact results
    come from the CPU in float64, from the same rounded operands. The error is relative to the exact element or to the
    root mean square of all, whichever is larger. The error of a sum of K random terms grows as √K, so each operation
    has its own bars, one for fp32 and one for bf16 and fp16. An element that is not finite is a FAIL.
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
    source = "four times the largest error of this operation seen on healthy CPUs, at least 16 eps"
    how = "the closest to its bar" if worst.error <= worst.bar else "the furthest beyond its bar"
    note = f"the value and the bar are those of {worst.name}, {how} of {len(found)} operations"
    check.at_most(worst.error, "eps", worst.bar, source, note=note)
