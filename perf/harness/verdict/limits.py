"""In: the name of a device, or the figures of a CPU, GPU or PCIe link. Out: its physical limits and their sources."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("limits.json")
# Float32 operations per clock cycle and core, by instruction set, maker, family and models: vector units × elements per
# vector × 2 for a fused multiply-add. Some cores have one unit, or units of half the size. Models that are not here are
# unknown: they may have cores of two kinds. Sources: Intel 64 and IA-32 Architectures Optimization Reference Manual;
# Intel, specifications of Xeon Scalable processors (AVX-512 FMA units); AMD Software Optimization Guides, families 17h
# (models 00h to 2Fh, and 30h and above), 19h and 1Ah. Hygon's family 18h is AMD's 17h.
CPU_FLOP_PER_CLOCK = (
    ("AVX2", "AuthenticAMD", 23, range(0x30), 2 * 4 * 2),
    ("AVX2", "AuthenticAMD", 23, range(0x30, 0x100), 2 * 8 * 2),
    ("AVX2", "AuthenticAMD", 25, range(0x100), 2 * 8 * 2),
    ("AVX2", "AuthenticAMD", 26, range(0x100), 2 * 8 * 2),
    ("AVX2", "HygonGenuine", 24, range(0x04), 2 * 4 * 2),
    ("AVX2", "GenuineIntel", 6, (60, 61, 63, 69, 70, 71, 78, 79, 85, 86, 94, 142, 158, 165, 166), 2 * 8 * 2),
    ("AVX2", "GenuineIntel", 6, (106, 108, 125, 126, 140, 141, 143, 167, 173, 174, 207), 2 * 8 * 2),
    ("AVX512", "AuthenticAMD", 25, range(0x100), 2 * 8 * 2),
    ("AVX512", "AuthenticAMD", 26, (0x00, 0x01, 0x02, 0x10, 0x11, 0x44), 2 * 16 * 2),
    ("AVX512", "GenuineIntel", 6, (106, 108, 143, 173, 174, 207), 2 * 16 * 2),
    ("AVX512", "GenuineIntel", 6, (125, 126, 140, 141, 167), 16 * 2),
)
# Dense floating-point operations per clock cycle and streaming multiprocessor of NVIDIA GPUs, by compute capability.
# Sources: the whitepapers of the A100 (2020), H100 (2022) and Blackwell (2024) architectures.
GPU_FLOP_PER_CLOCK = {
    "8.0": {"fp32": 128, "tf32": 1024, "bf16": 2048, "fp16": 2048},
    "9.0": {"fp32": 256, "tf32": 2048, "bf16": 4096, "fp16": 4096},
    "10.0": {"fp32": 256, "tf32": 4096, "bf16": 8192, "fp16": 8192},
}

# All GPUs of these architectures have units of the same speed. Those of 9.0 do not: an H20 has a seventh of an H100's.
UNIFORM = ("8.0",)
# Bytes per second and lane, by PCIe generation, without the encoding overhead. Source: PCI Express Base Specification.
LANE_BYTES_PER_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
# The second thread of a core may be another machine's, which no counter here shows. A virtual machine with no other
# program in it kept 0.74 of its first rate, and five seconds later it had that again (perf/results/2026-11-27-h200.md);
# another one reached 0.42 of its peak, twice in five minutes, and before 0.63 to 0.82
# (perf/results/2026-11-28-qualification.md).
LEFT, NEIGHBOURS = 0.6, "another virtual machine on the same cores may take two fifths"


@dataclass(frozen=True)
class Limit:
    """A limit; `value` is in the unit of the metric.

    No device exceeds a `certain` limit, or the `ceiling` of another one, which was measured, or depends on a clock that
    may rise. `share` is what a healthy device of this kind reaches at least, if that is less than others reach.
    """

    value: float
    source: str
    certain: bool = True
    share: float | None = None
    ceiling: float | None = None


def matmul_limit(device_name: str, dtype: str, highest_hz: float | None = None) -> Limit | None:
    """The dense peak of a device, from the table [FLOP/s]; None if the table does not have it.

    If the device may run faster than at the clock of its peak, the ceiling is that at `highest_hz`, its highest clock.
    """
    entry = _entry(device_name)
    if entry is None or dtype not in entry["flop_per_s"]:
        return None
    peak, certain = entry["flop_per_s"][dtype], entry.get("certain", True)
    ceiling = None if certain or highest_hz is None else peak * max(1.0, highest_hz / entry["clock_hz"])
    return Limit(peak, entry["source"], certain, entry.get("share"), ceiling)


def gpu_matmul_limit(multiprocessors: int, capability: str, clock_hz: float, dtype: str) -> Limit | None:
    """The dense peak of an NVIDIA GPU at a clock [FLOP/s]; None if the capability or the `dtype` is unknown."""
    per_clock = GPU_FLOP_PER_CLOCK.get(capability, {}).get(dtype)
    if per_clock is None:
        return None
    source = f"{multiprocessors} multiprocessors × {per_clock} FLOP × {clock_hz / 1e9:.2f} GHz"
    return Limit(multiprocessors * per_clock * clock_hz, source)


def memory_limit(device_name: str) -> Limit | None:
    """The memory bandwidth of a device, from the table [bytes/s]; None if the table does not have it."""
    entry = _entry(device_name)
    return None if entry is None else Limit(entry["bytes_per_s"], entry["source"])


def link_limit(generation: int, width: int) -> Limit | None:
    """The bandwidth of a PCIe link in one direction [bytes/s]; None if the generation is unknown."""
    if generation not in LANE_BYTES_PER_S:
        return None
    return Limit(width * LANE_BYTES_PER_S[generation], f"PCIe {generation} ×{width} as negotiated under load")


def cpu_matmul_limit(
    cores: int,
    capability: str,
    clock_hz: float | None,
    dtype: str,
    kind: tuple[str, int, int] | None = None,
    highest_hz: float | None = None,
    measured_hz: float | None = None,
) -> Limit | None:
    """The peak of `cores` physical cores at the `measured_hz` clock, else at the reported `clock_hz` [FLOP/s].

    The ceiling is that at the highest of all clocks. `kind` is the maker, family and model of the CPU. None if the
    clock or the vector units are unknown, or if `dtype` is not fp32.
    """
    per_clock = flop_per_clock(capability, kind)
    known = {"as measured": measured_hz, "as reported": clock_hz}
    clocks = {how: found for how, found in known.items() if found is not None}
    if per_clock is None or not clocks or dtype != "fp32":
        return None
    said = ", ".join(f"{found / 1e9:.2f} GHz {how}" for how, found in clocks.items())
    source = f"{cores} cores × {per_clock} FLOP ({capability}) × {said}"
    ceiling = cores * per_clock * max(*clocks.values(), highest_hz or 0.0)
    return Limit(cores * per_clock * next(iter(clocks.values())), source, certain=False, ceiling=ceiling)


def flop_per_clock(capability: str, kind: tuple[str, int, int] | None) -> int | None:
    """Float32 operations per clock cycle of a core; None if the model is not in the table."""
    for instructions, maker, family, models, per_clock in CPU_FLOP_PER_CLOCK:
        if kind is not None and (capability, *kind[:2]) == (instructions, maker, family) and kind[2] in models:
            return per_clock
    return None


def _entry(device_name: str) -> dict[str, Any] | None:
    return next((entry for entry in table() if entry["name"] == device_name), None)


@cache
def table() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(TABLE.read_text(encoding="utf-8"))["devices"])
