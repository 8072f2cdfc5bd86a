"""In: what each pass found for a case. Out: the result of all passes together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perf.harness.statistics.intervals import Passes, scatter, summary
from perf.harness.statistics.kinds import two_kinds
from perf.harness.verdict.marks import marks

# How a record combines these values over all passes. For every other value, it keeps what the first pass found.
OF_ALL: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    "others_cores": max, "withheld_cores": max, "crowding": max,
    "peak_bytes": max, "warmup_stable": all, "reuses_compilation": any,
    "warmup_calls": sum, "throttled_rounds": sum, "power_capped_rounds": sum,
    "energy_j": sum, "energy_s": sum, "energy_calls": sum,
}  # fmt: skip


def of_all(infos: Mapping[int, Mapping[str, Any]], passes: Passes) -> dict[str, Any]:
    """The `extra_info` of a case over all passes. `infos` are by pass number; `passes` are the times of each pass."""
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
