"""In: the kind and the size of a slowdown. Out: what gate after gate finds with this slowdown on this machine."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import data
from model import Recipe
from perf.harness.machine import devices
from perf.harness.machine.affinity import cores
from perf.harness.measurement.side_by_side.link import Link
from perf.harness.measurement.side_by_side.pair import BASE, HEAD, Compared, Round
from perf.harness.measurement.side_by_side.schedule import Gate, Watcher
from perf.harness.measurement.side_by_side.sides import Side, sides
from perf.harness.options import Settings, SettingsError, resolve
from perf.harness.verdict.launches import Rule
from perf.harness.verdict.trials import Trial
from perf.harness.workload.axes import Axes
from perf.harness.workload.plan import check_devices
from perf.harness.workload.workload import default_batch_sizes, unable

# The cases that the gate measures: steps, inference and an epoch; for a slow input, the benchmarks with an input. Each
# has a benchmark, the place of its batch size among those of the network, and a pipeline.
STEPS = (("training_step", 0, None), ("training_step", 1, None), ("inference", 0, None), ("epoch", 0, "resident"))
INPUTS = (("epoch", 0, "resident"), ("epoch", 1, "resident"), ("input_pipeline", 0, "resident"),
          ("input_pipeline", 1, "resident"))  # fmt: skip


def cases(kind: str, device: str, recipe: Recipe, part: str = "") -> list[Compared]:
    """The cases of a self-test that plants a slowdown of this `kind` into the training of `recipe`.

    Only those with `part` in their names. Raises NothingSelected if there are none.
    """
    sizes = default_batch_sizes(recipe)
    cannot = unable(recipe)
    wanted = dict.fromkeys(
        (name, sizes[min(place, len(sizes) - 1)], pipeline)
        for name, place, pipeline in (INPUTS if kind == "input" else STEPS)
        if name not in cannot
    )
    found = [(name, Axes(device, size, pipeline)) for name, size, pipeline in wanted]
    every = [Compared(f"{name}[{axes.id}]", name, axes) for name, axes in found]
    chosen = [case for case in every if part in case.name]
    if not chosen:
        raise NothingSelected(f"-k: {part!r} is in no name of {', '.join(case.name for case in every)}")
    return chosen


class NothingSelected(Exception):
    """No case is left: `str()` says which there are."""


class DeviceUnusable(Exception):
    """A device cannot be tested: `str()` says which device and why."""


def settings(device: str, model: str | None = None) -> Settings:
    """The settings of a self-test: the defaults of `pytest perf/`, on one device. Raises DeviceUnusable."""
    root = Path(data.__file__).resolve().parent
    try:
        made = resolve({"device": device, "model": model}, {}, "", root)
        check_devices(made)
    except SettingsError as error:
        raise DeviceUnusable(str(error).replace("--perf-device", "--device", 1)) from None
    wanted = devices.expand(made.devices)
    if len(wanted) != 1:
        raise DeviceUnusable(f"--device: {device!r} is {len(wanted)} devices; test one device at a time")
    if wanted[0].absent:
        raise DeviceUnusable(f"--device: {device} is absent: {wanted[0].absent}")
    return replace(made, devices=(wanted[0].name,))


def run(
    settings: Settings, todo: Sequence[Compared], kind: str, share: float, gates: int, say: Callable[[str], None]
) -> Iterator[Trial]:
    """Run `gates` gates of this code against itself, with a slowdown of `share` planted in head; 0 plants nothing."""
    inject = {"kind": kind, "share": share} if share else None
    with sides(settings, 1) as (base, head):
        both = {base.name: base, head.name: head}
        for _ in range(gates):
            yield _one(settings, both, todo, inject, share, kind, say)


def _one(
    settings: Settings,
    both: dict[str, Side],
    todo: Sequence[Compared],
    inject: dict[str, object] | None,
    share: float,
    kind: str,
    say: Callable[[str], None],
) -> Trial:
    seen = _Seen(say)
    amounts: dict[tuple[object, ...], float] = {}
    gate = Gate(
        todo,
        lambda name: _Planted(both[HEAD].launch(inject), amounts) if inject and name == HEAD else both[name].launch(),
        Rule(len(todo), settings.min_effect),
        budget_s=settings.time_budget_s,
        cores=cores(),
        watcher=seen,
    )
    judgements = gate.run()
    reached = {name: statistics.median(shares) for name, shares in seen.injected.items()} if inject else {}
    unplanted = tuple(name for name, size in reached.items() if not size)
    return Trial(
        kind=kind,
        share=share,
        judgements=tuple(judged for judged in judgements if judged.name not in unplanted),
        seconds=gate.elapsed_s,
        others_cores=gate.others_cores,
        injected=tuple(size for name in reached if name not in unplanted for size in seen.injected[name]),
        unplanted=unplanted,
        stock=tuple(seen.stock_ratios()),
    )


class _Planted:
    """A worker of head that plants the same amount in each launch, as a change of the code would.

    If each launch calibrated its own amount, the calibration error would add to the spread between launches.
    """

    def __init__(self, link: Link, amounts: dict[tuple[object, ...], float]) -> None:
        self._link = link
        self._amounts = amounts
        self._case: tuple[object, ...] = ()

    def request(self, do: str, **arguments: Any) -> None:
        if do == "prepare":
            self._case = tuple(value for name, value in arguments.items() if name != "core")
            arguments["amount"] = self._amounts.get(self._case)
        self._link.request(do, **arguments)

    def reply(self, limit_s: float) -> dict[str, Any]:
        answer = self._link.reply(limit_s)
        if "amount" in answer:
            self._amounts[self._case] = answer["amount"]
        return answer

    def cpu_s(self) -> float | None:
        return self._link.cpu_s()

    def close(self) -> None:
        self._link.close()


class _Seen(Watcher):
    """What a self-test keeps of each launch: the size of the slowdown, and the medians that a stored run would have."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.injected: dict[str, list[float]] = {}
        self._medians: dict[str, list[tuple[float, float]]] = {}

    def working(self, launch: int, case: Compared, share: float, undecided: int) -> None:
        if share == 0.0:
            self._say(f"pair {launch}: {case.name}, {undecided} undecided")

    def measured(self, case: Compared, rounds: Sequence[Round], injected: float | None) -> None:
        self.injected.setdefault(case.name, []).append(injected or 0.0)
        base, head = ([time for pair in rounds for time in pair[side].wall_s] for side in (BASE, HEAD))
        self._medians.setdefault(case.name, []).append((statistics.median(base), statistics.median(head)))

    def stock_ratios(self) -> Iterator[float]:
        """Head's median divided by that of base in the launch before, as in a comparison with a stored run."""
        for launches in self._medians.values():
            for (stored, _), (_, new) in itertools.pairwise(launches):
                yield new / stored
