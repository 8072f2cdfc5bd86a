"""In: NVML's bits that say why a GPU does not run at its highest clocks. Out: the meaning of each bit."""

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


# The hardware cuts the clocks to half or less: the GPU is too hot, has too little power, or gets an external signal.
HARDWARE = Reason.HW_SLOWDOWN | Reason.HW_THERMAL_SLOWDOWN | Reason.HW_POWER_BRAKE_SLOWDOWN
# The driver or the hardware reports that the GPU is too hot.
THERMAL = Reason.SW_THERMAL_SLOWDOWN | Reason.HW_THERMAL_SLOWDOWN
# A healthy GPU with proper cooling and power has none of these reasons. The other reasons come from settings, such as
# the power cap, which every full load reaches.
SLOWING = HARDWARE | THERMAL


def names(bits: int) -> list[str]:
    """The name of each bit that is set, as in a record: `hw_slowdown`, or `0x200` if the bit is unknown."""
    found = [reason for reason in Reason if reason & bits]
    unknown = bits & ~sum(Reason)
    rest = [1 << place for place in range(unknown.bit_length()) if unknown >> place & 1]
    return [str(reason.name).lower() for reason in found] + [f"{bit:#x}" for bit in rest]
