"""In: what the training of base and head takes and does. Out: a judgement that says so: HEAVIER, or INVALID.

The allocator's bytes and the parameters that are trained do not vary from run to run, so there are no statistics.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.record.run import short_name, some_of
from perf.harness.record.values import CountOrZero

# Less than this is no news, whatever share it is [bytes].
MIB = LEAST_BYTES = 2**20
# Losses after the same steps differ by far less than this share, where only the order of operations has changed.
OTHER_LOSS = 0.01


@dataclass(frozen=True)
class Weight:
    """The memory of a training [bytes], whether it changes each parameter, by name, and its loss; None if unknown."""

    bytes: CountOrZero | None
    trained: Mapping[str, bool]
    loss: float | None


def frozen(base: Weight, head: Weight) -> list[str]:
    """The parameters that base trains, and head has but does not train."""
    return [name for name, trained in head.trained.items() if not trained and base.trained.get(name)]


def heavier(base: Weight, head: Weight, max_memory: float) -> bool:
    """Whether head takes more memory than base by the share `max_memory`, and by LEAST_BYTES."""
    if base.bytes is None or head.bytes is None:
        return False
    return head.bytes - base.bytes >= LEAST_BYTES and head.bytes > base.bytes * (1 + max_memory)


def weighed(judgement: Judgement, base: Weight, head: Weight, max_memory: float) -> Judgement:
    """`judgement` on the times of both sides, with what else they take and do."""
    known = replace(
        judgement,
        base_bytes=base.bytes,
        head_bytes=head.bytes,
        base_loss=_finite(base.loss),
        head_loss=_finite(head.loss),
    )
    if judgement.verdict is Verdict.INVALID:
        return known
    cut = ""
    if names := frozen(base, head):
        what = "a parameter" if len(names) == 1 else f"{len(names)} parameters"
        cut = f"head does not train {what} that base trains: {some_of(names)}"
    said = ""
    if heavier(base, head, max_memory):
        assert base.bytes is not None and head.bytes is not None
        said = f"training takes {head.bytes / MIB:,.1f} MiB instead of {base.bytes / MIB:,.1f} MiB"
    slower = judgement.verdict is Verdict.SLOWER
    if said and slower and not cut:
        return replace(known, reason="; ".join(filter(None, [judgement.reason, f"also HEAVIER: {said}"])))
    if cut or said:  # the first is the verdict; who accepts that reads of the rest, too
        time = with_change(judgement) if slower or judgement.verdict is Verdict.INCONCLUSIVE else judgement.reason
        verdict = Verdict.INVALID if cut else Verdict.HEAVIER
        return replace(known, verdict=verdict, reason="; ".join(filter(None, [cut, said, time])))
    return known


def other_losses(judgements: Iterable[Judgement]) -> list[str]:
    """A sentence if head comes to another loss than base, after the same steps on the same data; else empty."""
    found = []
    for one in judgements:
        base, head = one.base_loss, one.head_loss
        if base is not None and head is not None and abs(head - base) > OTHER_LOSS * abs(base):
            found.append(f"{short_name(one.name)} {base:.4g} → {head:.4g}")
    return [f"head comes to another loss: {some_of(found)}; its time may be that of another training"] if found else []


def with_change(judgement: Judgement) -> str:
    """The verdict, by how much the time changed, and the reason: `SLOWER +23%: training takes …`."""
    changed = "" if judgement.ratio is None else f" {judgement.ratio - 1:+.0%}"
    return ": ".join(filter(None, [f"{judgement.verdict}{changed}", judgement.reason]))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
