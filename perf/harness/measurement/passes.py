"""In: what each pass has found of a case. Out: the passes that the case is in, and what all of them say together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perf.harness.statistics.intervals import Passes, scatter, summary
from perf.harness.statistics.kinds import two_kinds
from perf.harness.verdict.marks import marks

# Two give an interval that says nothing: Student's t is 12.7 with one degree of freedom, and 4.3 with two.
LEAST_PASSES = 3
# What a case's record keeps of all passes; of everything else, it keeps what the first one found.
OF_ALL: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    "others_cores": max, "crowding": max, "peak_bytes": max, "warmup_stable": all,
    "warmup_calls": sum, "throttled_rounds": sum, "power_capped_rounds": sum,
}  # fmt: skip


def numbers_of(passes: int, long_s: float, took_s: float) -> set[int]:
    """The passes that a case is in, by number: as many as fit into `long_s`, as far apart as can be.

    It is in LEAST_PASSES at least, but one that `took_s` more than twice `long_s` in the first is in no other: such a
    time is a busy machine's, and is marked.
    """
    if took_s > 2 * long_s:
        return {1}
    count = min(passes, max(LEAST_PASSES, int(long_s / took_s)))
    return {1 + round(turn * (passes - 1) / (count - 1)) for turn in range(count)}


def of_all(infos: Mapping[int, Mapping[str, Any]], passes: Passes) -> dict[str, Any]:
    """`extra_info` of a case, from that of each pass by its number, and its samples."""
    first, *_ = infos.values()
    info = dict(first)
    for key, together in OF_ALL.items():
        known = [one[key] for one in infos.values() if one.get(key) is not None]
        if known:
            info[key] = together(known)
    info["pass_rounds"] = {str(number): len(samples) for number, samples in zip(infos, passes, strict=True)}
    starts = {str(number): one.get("cold_start_s") for number, one in infos.items()}
    info["cold_starts_s"] = {number: start for number, start in starts.items() if start is not None}
    if "samples_per_iteration" in info:
        info["samples_per_s"] = info["samples_per_iteration"] / summary(passes).median
    kinds = two_kinds([summary([samples]).median for samples in passes])
    found = marks(scatter(passes), info.get("crowding"), info.get("throttled_rounds"), two_kinds=kinds is not None)
    return info | {"marks": " ".join(found)}
