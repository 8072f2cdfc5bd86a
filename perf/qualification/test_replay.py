"""Does the same training give the same bits again?"""

import pytest

from perf.harness.machine import memory
from perf.harness.measurement.checks import exact, faults
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.workload.workload import Trainee

STEPS, REPLAYS = 32, 8
# Bits of the mantissa of a float32. The lowest one is the smallest possible error of a weight. In a gradient it leaves
# no trace: the learning rate makes it smaller than the rounding of the weight.
LOWEST, HIGHEST = 0, 22


@pytest.mark.check("self", "golden", seconds=1)
def test_replay(check: Attempt) -> None:
    """`self`: how many of 8 replays of 32 training steps end with different gradients or weights [mismatches].

    There must be none: the same operations on the same numbers in the same order give the same bits. Every second
    replay starts after the device's memory is freed, so that tensors get different addresses.

    `golden`: whether the training ends with the bits that the spec has for the same device name and version of torch.
    """
    work = check.plan.workload(check.device.name, check.plan.network().batch_sizes[0], None)
    trainee, batches = work.trainee(), work.batches(STEPS)

    def flip(number: int, trainee: Trainee) -> None:
        if number != STEPS // 2:
            return
        parameter = next(trainee.model.parameters())
        if check.fault == "weight":
            faults.flip_bit(parameter.data, 1_000, LOWEST)
        else:
            assert parameter.grad is not None
            largest = int(parameter.grad.abs().argmax())
            faults.flip_bit(parameter.grad, largest, HIGHEST)

    if check.variant == "golden":
        digest = exact.trained_digest(trainee, batches, flip if check.fault else None)
        batch, seed = f"{STEPS} batches of {work.batch_size}", f"seed {work.seed}"
        check.golden(digest, f"{work.recipe.name} on {work.data.name} {work.data.digest[:8]}, {batch}, {seed}")
        return
    first = exact.trained_digest(trainee, batches)
    differ = []
    for replay in range(REPLAYS):
        if replay % 2:
            memory.free(check.device)
        fault = flip if check.fault and replay == REPLAYS // 2 else None
        if exact.trained_digest(trainee, batches, fault) != first:
            differ.append(replay + 1)
    said = f"different bits in replay {', '.join(map(str, differ))} of {REPLAYS}" if differ else ""
    check.at_most(len(differ), "mismatches", 0, "the same operations give the same bits", said)
