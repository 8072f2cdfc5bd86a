"""In: the settings of a gate. Out: the same; where the working tree's ini file decides the verdict, base's file counts.

A pull request may change its own ini file. What decides about it is what the command line says, or base.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from perf.harness.options import OPTIONS, Settings, resolve
from perf.harness.plugin import project

DECIDING = ("gate", "min-effect", "max-memory", "inconclusive", "time-budget")


def of_base(config: pytest.Config, settings: Settings, base: Path, head: Path) -> tuple[Settings, list[str]]:
    """The settings that decide about head, and a note for each that head has changed. Raises pytest.UsageError."""
    _, name = project.settings(config)
    file = Path(name).resolve()
    if base == head or not file.is_file() or not file.is_relative_to(head):
        return settings, []
    there = base / file.relative_to(head)
    known = project.values(there) if there.is_file() else {}
    options = [one for one in OPTIONS if one.name in DECIDING and settings.origins[one.name].startswith(one.ini)]
    changed = {one: known.get(one.ini) for one in options if known.get(one.ini) != settings.texts[one.name]}
    if not changed:
        return settings, []
    texts = {key: text for key, text in settings.texts.items() if key not in {one.name for one in changed}}
    texts |= {one.name: text for one, text in changed.items() if text is not None}
    notes = [
        f"{one.ini}={settings.texts[one.name]} in {file.name} counts once base has it, and now {old or 'the default'}"
        for one, old in changed.items()
    ]
    made = resolve(texts, {}, str(there), settings.data_root)
    return replace(made, threads=settings.threads), notes  # nobody has typed the threads of a gate
