"""In: a spec. Out: text: what other machines will be held against."""

from __future__ import annotations

from collections.abc import Sequence

from perf.harness.record.spec import Reference, Spec
from perf.harness.report import units
from perf.harness.report.layout import Block, Column, Heading, Notes, Paragraph, Table, page
from perf.harness.report.qualification import NONE, metric


def listing(spec: Spec, path: str, width: int, left_out: Sequence[str] = ()) -> str:
    """What is in `spec`, and what was measured and is not."""
    references = spec.references
    columns = (
        Column("check", tuple(f"{one.check} {one.variant}".rstrip() for one in references), right=False),
        Column("device", tuple(one.device_name for one in references), right=False, flexible=True),
        Column("median", tuple(metric(one.value, one.unit) for one in references)),
        Column("runs differ by", tuple(_spread(one) for one in references)),
        Column("runs", tuple(str(one.runs) for one in references)),
    )
    last = Paragraph(
        f"Written to {path}. Judge a machine by it: pytest perf/ --perf-profile=qualify --perf-spec={path}"
    )
    exact: list[Block] = [Notes(tuple(f"digest {one}: {of}" for of, one in spec.digests.items()))]
    tables: list[Block] = [Table("References", columns)] if references else []
    doubtful: list[Block] = [Notes(tuple(f"left out: {one}" for one in left_out))] if left_out else []
    return page([Heading("Stepwatch"), *tables, *(exact if spec.digests else []), *doubtful, last], width)


def _spread(one: Reference) -> str:
    return NONE if one.spread is None else f"±{units.percent(one.spread)}"
