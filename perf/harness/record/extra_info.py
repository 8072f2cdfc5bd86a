"""What a record keeps of one benchmark besides its times: pytest-benchmark's `extra_info`, typed and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

NumberOrNone = float | None
Text = str | UnsetType
Whole = int | UnsetType
Number = float | UnsetType
# Between the members of a training that are not used, in `training`.
BETWEEN = " · "


class ExtraInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The keys and types of `extra_info`; perf/schema.json describes each. UNSET: the benchmark has no such value."""

    benchmark: str
    model: str
    data: str
    data_digest: str
    device: str
    device_name: str
    batch_size: int
    pipeline: str | None
    memory_format: str
    execution: str
    precision: str
    profile: str
    parameters: Whole = UNSET
    trained_parameters: Whole = UNSET
    training: Mapping[str, str] | UnsetType = UNSET
    cold_start_s: Number = UNSET
    warmup_calls: Whole = UNSET
    warmup_stable: bool | UnsetType = UNSET
    timing: Text = UNSET
    others_cores: Number = UNSET
    withheld_cores: Number = UNSET
    crowding: Number = UNSET
    marks: Text = UNSET
    pass_rounds: Mapping[str, int] | UnsetType = UNSET
    reuses_compilation: bool | UnsetType = UNSET
    cold_starts_s: Mapping[str, float] | UnsetType = UNSET
    throttled_rounds: Whole = UNSET
    power_capped_rounds: Whole = UNSET
    samples_per_iteration: Whole = UNSET
    samples_per_s: Number = UNSET
    unit: Text = UNSET
    units_per_sample: Number = UNSET
    peak_bytes: int | UnsetType | None = UNSET
    enqueue_s: NumberOrNone | UnsetType = UNSET
    one_thread_s: NumberOrNone | UnsetType = UNSET
    all_threads_s: NumberOrNone | UnsetType = UNSET
    done_s: NumberOrNone | UnsetType = UNSET
    overhead_s: NumberOrNone | UnsetType = UNSET
    flop_per_sample: int | UnsetType | None = UNSET
    flop_uncounted: Text = UNSET
    matmul_flop_per_s: Number = UNSET
    energy_j: Number = UNSET
    energy_s: Number = UNSET
    energy_calls: Whole = UNSET
    bytes_per_sample: NumberOrNone | UnsetType = UNSET
    step_losses: Mapping[str, float] | UnsetType = UNSET
    step_losses_rounding: Mapping[str, float] | UnsetType = UNSET
    loss_first: NumberOrNone | UnsetType = UNSET
    loss_last: NumberOrNone | UnsetType = UNSET
    parity_steps: Whole = UNSET
    parity_difference: NumberOrNone | UnsetType = UNSET
    parity_rounding: NumberOrNone | UnsetType = UNSET
    precision_difference: NumberOrNone | UnsetType = UNSET
    epoch_difference: Number = UNSET
    graph_break: str | UnsetType | None = UNSET
    cycle: Whole = UNSET
    phases_s: Mapping[str, float] | UnsetType = UNSET
    phases_wall_s: Number = UNSET
    phases_batches: Whole = UNSET
    epochs: Whole = UNSET
    accuracy: Number = UNSET
    metrics: Mapping[str, float] | UnsetType = UNSET
    losses: Mapping[str, float] | UnsetType = UNSET
    weight_bytes: Whole = UNSET
    gradient_bytes: Whole = UNSET
    optimizer_bytes: Whole = UNSET
    activation_bytes: int | UnsetType | None = UNSET
    largest_batch: Whole = UNSET
    sufficient_batch: Whole = UNSET
    limited_by: Text = UNSET
    memory_limit_bytes: int | UnsetType | None = UNSET
    rates: Mapping[str, float] | UnsetType = UNSET
    alone_rates: Mapping[str, float] | UnsetType = UNSET
    together_rates: Mapping[str, float] | UnsetType = UNSET
    together_power_w: Mapping[str, float] | UnsetType = UNSET
    together_clock_hz: Mapping[str, float] | UnsetType = UNSET

    def with_found(self, **found: Any) -> ExtraInfo:
        """A copy in which the values in `found` replace the old ones. Raises TypeError for an unknown key."""
        return msgspec.structs.replace(self, **found)

    def as_record(self) -> dict[str, Any]:
        """`extra_info` in the JSON, without the keys that are UNSET."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not UNSET}
