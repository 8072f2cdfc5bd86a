"""In: the document of a run. Out: the same without what says whose machine it is: folders, repository and branch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perf.harness.record.store import plain

ROOT = Path("/")


def anonymous(document: Mapping[str, Any], folders: Mapping[str, Path]) -> dict[str, Any]:
    """`document` with the name of each of `folders` in the place of its path, wherever a text has it."""
    paths = {str(at): name for name, path in folders.items() for at in (path, path.resolve()) if at != ROOT}
    longest_first = sorted(paths, key=len, reverse=True)  # a data root may lie in the home folder

    def shortened(value: Any) -> Any:
        if isinstance(value, str):
            for path in longest_first:
                value = value.replace(path, paths[path])
        elif isinstance(value, dict):
            return {shortened(key): shortened(item) for key, item in value.items()}
        elif isinstance(value, list):
            return [shortened(item) for item in value]
        return value

    made: dict[str, Any] = shortened(plain(document))
    commit = made.get("commit_info")
    if isinstance(commit, dict):
        commit.update({key: "" for key in ("project", "branch") if key in commit})
    return made
