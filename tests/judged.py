"""What a gate on fakes judges, and what it finds."""

from perf.harness.record.judgement import Verdict

NAMES = (
    "training_step[cpu-bs64]",
    "inference[cpu-bs64]",
    "input_pipeline[cpu-bs64-resident]",
    "epoch[cpu-bs64-resident]",
)
SIDES = ("base", "head")
KNOWN = {"base_s": 1.0e-3, "head_s": 1.1e-3, "launches": 4, "smallest_detectable": 1.03}
SLOWER = {"verdict": Verdict.SLOWER, "ratio": 1.1, "low": 1.08, "high": 1.12, **KNOWN}
SAME = {"verdict": Verdict.SAME, "ratio": 1.0, "low": 0.99, "high": 1.01, **KNOWN}
UNDECIDED = {"verdict": Verdict.INCONCLUSIVE, "reason": "16 pairs differ too much", **SAME} | {
    "verdict": Verdict.INCONCLUSIVE, "high": 1.2
}  # fmt: skip
INVALID = {"verdict": Verdict.INVALID, "reason": "head: the loss is not finite: 2.3 at first, nan at last"}
