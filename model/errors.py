"""The errors of a model that cannot be used."""


class RecipeError(Exception):
    """A model that cannot be used: `str()` says which model, why, and what to do."""


class UnknownModel(RecipeError):
    """There is no model with this name."""


class Refused(RecipeError):
    """A training that cannot be measured as it is: why, and the lines to write instead."""

    def __init__(self, why: str, *lines: str) -> None:
        super().__init__("\n".join([f"{why}; write:", *(f"    {line}" for line in lines)]) if lines else why)
