"""In: the document of a run or of a spec. Out: a checksum of it, by which a reader sees a later change.

This is no signature: whoever wants to can compute it anew. It finds edits that nobody thought much of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from perf.harness.record.store import plain

CHECKSUM = "checksum"
UNKNOWN = "the file has no checksum, as those of before 2026-11-29: whether it was changed later is not known"


def of_run(document: Mapping[str, Any]) -> str:
    """The checksum of a run: of all but its raw times, and but what may be added later, a baseline."""
    perf = {key: value for key, value in document["perf"].items() if key not in (CHECKSUM, "baseline")}
    return of({**document, "perf": perf, "benchmarks": None})


def of(document: Mapping[str, Any]) -> str:
    """SHA-256 in hexadecimal. Spaces, the order of keys, and 1 or 1.0 make no difference: tools write JSON anew."""
    kept = json.dumps(plain(document), ensure_ascii=False).encode(errors="replace")
    return hashlib.sha256(json.dumps(json.loads(kept, parse_int=float), sort_keys=True).encode()).hexdigest()


def is_changed(document: Mapping[str, Any]) -> bool:
    """Whether the run in `document` is not what was written; False if it has no checksum."""
    return CHECKSUM in document["perf"] and document["perf"][CHECKSUM] != of_run(document)
