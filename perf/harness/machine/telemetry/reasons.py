"""In: the bits of NVML that say why a GPU's clocks are not the highest. Out: what each bit means."""

from __future__ import annotations

from enum import IntFlag


class Reason(IntFlag):
    """The names and values of nvmlClocksEventReason… in nvml.h. Several can be set at once."""

    GPU_IDLE = 0x1
    APPLICATIONS_CLOCKS_SETTING = 0x2
    SW_POWER_CAP = 0x4
    HW_SLOWDOWN = 0x8
    SYNC_BOOST = 0x10
    SW_THERMAL_SLOWDOWN = 0x20
    HW_THERMAL_SLOWDOWN = 0x40
    HW_POWER_BRAKE_SLOWDOWN = 0x80
    DISPLAY_CLOCK_SETTING = 0x100


# The hardware itself halves the clocks, or worse: it is too hot, has too little power, or a signal tells it to.
HARDWARE = Reason.HW_SLOWDOWN | Reason.HW_THERMAL_SLOWDOWN | Reason.HW_POWER_BRAKE_SLOWDOWN
# The driver or the hardware finds that it is too hot.
THERMAL = Reason.SW_THERMAL_SLOWDOWN | Reason.HW_THERMAL_SLOWDOWN
# A healthy GPU with proper cooling and power has none of these. The others follow from its settings: every full load
# reaches the power cap.
SLOWING = HARDWARE | THERMAL


def names(bits: int) -> list[str]:
    """The name of each bit that is set, as in a record: `hw_slowdown`, or `0x200` for an unknown bit."""
    found = [reason for reason in Reason if reason & bits]
    unknown = bits & ~sum(Reason)
    rest = [1 << place for place in range(unknown.bit_length()) if unknown >> place & 1]
    return [str(reason.name).lower() for reason in found] + [f"{bit:#x}" for bit in rest]
