"""In: what the suite records of a run, `perf`. Out: the same with a digest, by which a reader sees a later change.

This is no signature: whoever wants to can compute the digest anew. It finds edits that nobody thought much of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from perf.harness.record.store import plain

DIGEST = "digest"
ADDED = (DIGEST, "baseline")  # what may be added later


def sealed(perf: Mapping[str, Any]) -> dict[str, Any]:
    """`perf` with the digest of all the rest."""
    return {**perf, DIGEST: _digest(perf)}


def is_changed(perf: Mapping[str, Any]) -> bool:
    """Whether `perf` is not what was sealed; False if it was not, as in records of before 2026-11-29."""
    return DIGEST in perf and perf[DIGEST] != _digest(perf)


def _digest(perf: Mapping[str, Any]) -> str:
    """SHA-256 in hexadecimal. Spaces, the order of keys, and 1 or 1.0 make no difference: tools write JSON anew."""
    kept = {key: value for key, value in plain(perf).items() if key not in ADDED}
    numbers = json.loads(json.dumps(kept, ensure_ascii=False).encode(errors="replace"), parse_int=float)
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()
