"""Draws the README's picture from the record of a run: where the time of an epoch goes, for each input pipeline.

    pytest perf/ --benchmark-json=run.json
    python perf/proof/picture.py run.json docs/epoch.svg

It takes the epochs at the smallest batch size. The SVG is static and has only presentation attributes, so that any
viewer shows it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from perf.harness.record.read import load  # noqa: E402
from perf.harness.record.run import Benchmark, RecordError  # noqa: E402
from perf.harness.report.quantities import duration, seconds  # noqa: E402
from perf.harness.verdict.rows import summary_of  # noqa: E402
from perf.proof.usage import parser  # noqa: E402

# The parts of a bar in their order: the label, the phases in it, and a color. The colors differ on a grey printer, too.
PARTS = (
    ("waiting for batches and copying them", ("data_wait", "copy"), "#d55e00"),
    ("forward", ("forward",), "#56b4e9"),
    ("backward", ("backward",), "#0072b2"),
    ("optimizer and the rest", ("optimizer", "other"), "#999999"),
)
WIDTH, LEFT, BAR, GAP, TOP, RIGHT = 860, 110, 26, 14, 62, 100


def epochs(benchmarks: tuple[Benchmark, ...]) -> list[Benchmark]:
    """The epochs at the smallest batch size whose phases are known. Raises ValueError if there are none."""
    found = [one for one in benchmarks if one.text("benchmark") == "epoch" and one.numbers("phases_s")]
    if not found:
        raise ValueError("no epoch in it has phases")
    least = min(one.number("batch_size") or 0 for one in found)
    return [one for one in found if one.number("batch_size") == least]


def drawn(found: list[Benchmark], machine: str) -> str:
    """The SVG: one bar for each of `found`, with its parts as shares, and the time of the epoch to its right."""
    height = TOP + len(found) * (BAR + GAP) + 30
    room = WIDTH - LEFT - RIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    x = LEFT
    for name, _, color in PARTS:
        lines += [
            f'<rect x="{x}" y="34" width="12" height="12" fill="{color}"/>',
            f'<text x="{x + 17}" y="45" fill="#222222">{name}</text>',
        ]
        x += 36 + 7 * len(name)
    size = found[0].number("batch_size") or 0
    lines.append(
        f'<text x="{LEFT}" y="20" fill="#222222" font-size="15">Where the time of an epoch goes, at batch size '
        f"{size:.0f}</text>"
    )
    for number, one in enumerate(found):
        y = TOP + number * (BAR + GAP)
        phases = one.numbers("phases_s")
        total, x_now = sum(phases.values()), float(LEFT)
        name = escape(str(one.text("pipeline")))
        lines.append(f'<text x="{LEFT - 8}" y="{y + 18}" text-anchor="end" fill="#222222">{name}</text>')
        for _, names, color in PARTS:
            share = sum(phases.get(phase, 0.0) for phase in names) / total
            lines.append(f'<rect x="{x_now:.1f}" y="{y}" width="{share * room:.1f}" height="{BAR}" fill="{color}"/>')
            if share >= 0.06:
                lines.append(
                    f'<text x="{x_now + share * room / 2:.1f}" y="{y + 18}" text-anchor="middle" fill="#ffffff">'
                    f"{share:.0%}</text>"
                )
            x_now += share * room
        median_s = summary_of(one).median
        took = duration(median_s) if median_s >= 60 else seconds(median_s)
        lines.append(f'<text x="{WIDTH - RIGHT + 8}" y="{y + 18}" fill="#222222">{took}</text>')
    lines.append(f'<text x="{LEFT}" y="{height - 10}" fill="#666666" font-size="11">{escape(machine)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def main(record: Path, picture: Path) -> int:
    try:
        run = load(record)
        environment = run.perf.get("environment", {})
        machine = f"{environment.get('cpu_model')}, torch {environment.get('torch')}, profile {run.perf.get('profile')}"
        picture.write_text(drawn(epochs(run.benchmarks), machine))
    except (RecordError, ValueError, OSError) as error:
        print(f"picture.py: {record}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("record", metavar="RECORD.json", type=Path)
    arguments.add_argument("picture", metavar="PICTURE.svg", type=Path)
    sys.exit(main(**vars(arguments.parse_args())))
