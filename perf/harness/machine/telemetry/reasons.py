"""Why a GPU's clocks are below their highest: the bits that NVML reports, several at once; each is read by itself."""

from __future__ import annotations

from enum import IntFlag


class Reason(IntFlag):
    """nvml.h, nvmlClocksEventReason…: the names there, and the values."""

    GPU_IDLE = 0x1
    APPLICATIONS_CLOCKS_SETTING = 0x2
    SW_POWER_CAP = 0x4
    HW_SLOWDOWN = 0x8
    SYNC_BOOST = 0x10
    SW_THERMAL_SLOWDOWN = 0x20
    HW_THERMAL_SLOWDOWN = 0x40
    HW_POWER_BRAKE_SLOWDOWN = 0x80
    DISPLAY_CLOCK_SETTING = 0x100


# The hardware itself cuts the clocks, by half or more: too hot, too little power, or told to from outside.
HARDWARE = Reason.HW_SLOWDOWN | Reason.HW_THERMAL_SLOWDOWN | Reason.HW_POWER_BRAKE_SLOWDOWN
# Too hot, as the driver or the hardware found.
THERMAL = Reason.SW_THERMAL_SLOWDOWN | Reason.HW_THERMAL_SLOWDOWN
# A healthy GPU, cooled and fed as it should be, has none of these. The others are its settings: a power cap is
# reached under any full load.
SLOWING = HARDWARE | THERMAL


def names(bits: int) -> list[str]:
    """The name of each bit that is set, as a record has it: `hw_slowdown`; 0x200 for one that is not known."""
    found = [reason for reason in Reason if reason & bits]
    unknown = bits & ~sum(Reason)
    rest = [1 << place for place in range(unknown.bit_length()) if unknown >> place & 1]
    return [str(reason.name).lower() for reason in found] + [f"{bit:#x}" for bit in rest]
