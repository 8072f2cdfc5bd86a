"""The error of a mode that cannot be used."""


class Unsupported(Exception):
    """A mode that this device, this torch or this training cannot run: `str()` says why."""
