"""What a record keeps of a comparison: a `Judgement` of each benchmark (`perf.gate`), how it was made (`gate_run`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import msgspec

from perf.harness.record.values import CountOrZero, Positive, Seconds


class Verdict(StrEnum):
    SLOWER = "SLOWER"
    HEAVIER = "HEAVIER"
    INVALID = "INVALID"
    MISSING = "MISSING"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_JUDGED = "NOT JUDGED YET"
    ACCEPTED = "ACCEPTED"
    NEW = "NEW"
    FASTER = "FASTER"
    SAME = "SAME"


@dataclass(frozen=True)
class Judgement:
    """The verdict on one benchmark.

    `ratio` is head's time ÷ base's time, above 1 if head is slower; its 98% interval is `low` to `high`. `base_s` and
    `head_s` are the times of one call [s]; a gate calls single steps. `smallest_detectable` is the smallest ratio that
    would be SLOWER with this spread and the most launches that a gate makes, or with these stored runs. An unknown
    value is None. `launches` is the number of pairs of fresh processes, or of stored runs, that were compared.
    `base_bytes` and `head_bytes` are the memory that training takes, `base_loss` and `head_loss` the losses after the
    same few steps.
    """

    name: str
    verdict: Verdict
    reason: str = ""
    ratio: Positive | None = None
    low: Positive | None = None
    high: Positive | None = None
    base_s: Seconds | None = None
    head_s: Seconds | None = None
    launches: CountOrZero = 0
    smallest_detectable: Positive | None = None
    base_bytes: CountOrZero | None = None
    head_bytes: CountOrZero | None = None
    base_loss: float | None = None
    head_loss: float | None = None

    def as_record(self) -> dict[str, Any]:
        """The entry of `perf.gate` in the JSON."""
        return asdict(self)


class GateRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a gate was run, under `perf.gate_run`: its sides in words, with their commits, and what else decided.

    `seconds` is how long it measured, with `threads` threads each; None if it measured nothing. `others_cores` is how
    many cores other programs used meanwhile; None if unknown. `on_slower` and `on_inconclusive` are the modes of
    `--perf-gate` and `--perf-inconclusive`. `notes` are sentences for the reader, `command` repeats the gate,
    and `stepwatch` is the commit of the checkout that judged.
    """

    base: str
    head: str
    min_effect: Positive | None = None
    seconds: Seconds | None = None
    threads: int | None = None
    others_cores: float | None = None
    on_slower: str = "fail"
    on_inconclusive: str = "warn"
    notes: tuple[str, ...] = ()
    command: str = ""
    stepwatch: str = ""

    def as_record(self) -> dict[str, Any]:
        """`perf.gate_run` in the JSON."""
        record: dict[str, Any] = msgspec.to_builtins(self)
        return record
