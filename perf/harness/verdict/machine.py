"""In: the verdicts on the metrics. Out: the verdict on the machine, why, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from perf.harness.record.check import JUDGED, Check, CheckVerdict, Qualification, Standing
from perf.harness.verdict.checks import BEYOND, ONCE, OTHERS, TOO_GOOD, UNLIKE

# What to do next, by what the verdict rests on.
FAILED = "Attach the file to the ticket. Start with the first reason. It may have caused the others."
DRILL = "This run says nothing about the machine. Run it again without --perf-inject."
AGAIN = "Run it again, and let it finish."
AGAIN_FREE = "Stop the other programs on this machine, run it again, and let it finish."
UNCLEAR = "Stop the other programs on this machine, and run it again."
MEASURED_ONCE = (
    "Measure this machine again, with --perf-spec=FILE. A FAIL needs two measurements, and the record has one."
)
WRONG_LIMIT = "Run it again. If a value stays better than it can be, report that with the file."
VARIES = "Run it again. If it stays INCONCLUSIVE, these checks cannot judge this machine: say so in the ticket."
DONE = "Nothing to do."
SELECTED = "Run the other checks, too: leave out what selects some of them (--perf-check, -k)."
PARTLY = "Do what the reasons above say is missing, and run it again."
ANOTHER_SPEC = (
    "Use a spec of machines like this one. The lines above say how this machine differs from those of the spec."
)
BY_SPEC = (
    "To judge what was measured and has no bar, give a reference from machines that you know are good: "
    "--perf-spec=FILE (python -m perf spec makes it)."
)
NOTHING = "No check can be judged here. The reasons are above."
LACKING = (
    "Solve what the reasons above say. If you asked for too much, change --perf-require-check or --perf-expect-devices."
)

# Each of these checks measures one component of a training step alone.
COMPONENTS = ("matmul", "memory", "copies", "launch", "sustained")


def unmet(checks: Sequence[Check], required: Sequence[str]) -> list[str]:
    """One sentence for each `required` check that did not run, and for each device on which it cannot be judged."""
    found = []
    for name in required:
        ran = [check for check in checks if check.check == name]
        judged = {check.device for check in ran if check.verdict in JUDGED}
        if not ran:
            found.append(f"{name} is required, but did not run")
        for device in dict.fromkeys(check.device for check in ran if check.device not in judged):
            found.append(f"{name} is required, but cannot be judged on {device}")
    return found


def qualification_of(
    checks: Sequence[Check],
    *,
    required: Sequence[str] = (),
    lacking: Sequence[str] = (),
    unjudged: Sequence[str] = (),
    selection: Sequence[str] = (),
    notes: Sequence[str] = (),
    complete: bool = True,
) -> Qualification:
    """The verdict on the machine.

    A check that the user has `required` and that did not run or could not be judged disqualifies the machine, and so
    does all that it is `lacking`. What devices of its kind need and is `unjudged`, and a `selection` of checks, make it
    PARTLY QUALIFIED. `notes` say what else was not checked. A run that is not `complete` cannot qualify a machine.
    """
    lacking = [*lacking, *(unmet(checks, required) if complete else [])]
    if injected := sorted({check.injected for check in checks if check.injected}):
        standing, reasons, action = _drill(checks, injected)
    else:
        standing, reasons, action = _standing(checks, lacking, unjudged, selection, complete)
    said = tuple(dict.fromkeys((*reasons, *selection, *notes)))
    return Qualification(standing, said, action, tuple(lacking), tuple(selection), tuple(notes))


def _drill(checks: Sequence[Check], injected: Sequence[str]) -> tuple[Standing, Sequence[str], str]:
    """The verdict of a run with planted faults, which says only whether each fault was found."""
    said = []
    for planted in injected:
        hit = [check for check in checks if check.injected == planted]
        # A planted load makes the preconditions INCONCLUSIVE, not FAIL: nothing can be said about a busy machine.
        worst = CheckVerdict.INCONCLUSIVE if planted.startswith("preconditions") else CheckVerdict.FAIL
        found = [check for check in hit if check.verdict is worst]
        rest = "" if found else ": " + "; ".join(dict.fromkeys(check.reason or str(check.verdict) for check in hit))
        said.append(f"INJECTED {planted}: {'found' if found else 'not found'}{rest}")
    failed = _reasons(checks, CheckVerdict.FAIL)
    return Standing.NOT_QUALIFIED if failed else Standing.INCONCLUSIVE, [*said, *failed], DRILL


def _standing(
    checks: Sequence[Check],
    lacking: Sequence[str],
    unjudged: Sequence[str],
    selection: Sequence[str],
    complete: bool,
) -> tuple[Standing, Sequence[str], str]:
    failed, unclear = _reasons(checks, CheckVerdict.FAIL), _reasons(checks, CheckVerdict.INCONCLUSIVE)
    if failed:
        return Standing.NOT_QUALIFIED, [*failed, *lacking], FAILED
    if lacking:
        return Standing.NOT_QUALIFIED, lacking, LACKING
    if not complete:
        busy = _clearing(unclear) == UNCLEAR
        return Standing.INCONCLUSIVE, ["the run did not finish", *unclear], AGAIN_FREE if busy else AGAIN
    if unclear:
        return Standing.INCONCLUSIVE, unclear, _clearing(unclear)
    left = [check for check in checks if check.verdict not in JUDGED]
    if len(left) == len(checks):
        return Standing.INCONCLUSIVE, ["nothing was judged"], _judging(left, NOTHING)
    if selection:
        return Standing.PARTLY, [*unjudged, *selection], SELECTED
    if unjudged:
        return Standing.PARTLY, unjudged, _judging(left, PARTLY)
    return Standing.QUALIFIED, [], DONE


def _clearing(reasons: Sequence[str]) -> str:
    """What to do where a check is INCONCLUSIVE for these `reasons`."""
    if any(part in reason for reason in reasons for part in OTHERS):
        return UNCLEAR
    if any(part in reason for reason in reasons for part in (BEYOND, TOO_GOOD)):
        return WRONG_LIMIT
    return MEASURED_ONCE if all(ONCE in reason for reason in reasons) else VARIES


def _judging(left: Sequence[Check], otherwise: str) -> str:
    """How what is `left` can be judged, if a spec can do that."""
    unjudged = [check.reason for check in left if check.verdict is CheckVerdict.UNJUDGED]
    if any(UNLIKE in reason for reason in unjudged):
        return ANOTHER_SPEC
    return BY_SPEC if unjudged else otherwise


def _reasons(checks: Sequence[Check], verdict: CheckVerdict) -> list[str]:
    return [f"{check.name} on {check.device}: {_why(check)}" for check in checks if check.verdict is verdict]


def _why(check: Check) -> str:
    """The reason of a verdict; where a value is on the wrong side of its bar, and that is all, the two numbers."""
    if check.reason or check.value is None or check.bar is None:
        return check.reason
    return f"{check.value:.4g} {check.unit}, and it must be {check.want} {check.bar:.4g}"


def explanation(checks: Sequence[Check], device: str) -> str:
    """Which components of `device` explain a slow training step, or that none does."""
    names: dict[CheckVerdict, list[str]] = {}
    for check in checks:
        if check.device == device and check.check in COMPONENTS:
            names.setdefault(check.verdict, []).append(check.name)
    if slow := names.get(CheckVerdict.FAIL):
        return f"explained by {', '.join(slow)}"
    passed, unclear = (", ".join(names.get(one, [])) for one in (CheckVerdict.PASS, CheckVerdict.INCONCLUSIVE))
    said = [f"{passed} passed"] * bool(passed) + [f"{unclear} could not be judged"] * bool(unclear)
    return f"unexplained: {'; '.join(said) or 'none of its components could be judged'}"


def explained(step: Check, checks: Sequence[Check]) -> Check:
    """A training `step` that failed, with the `explanation` of that as the end of its reason, which may have one."""
    why = step.reason.partition("; explained by ")[0].partition("; unexplained: ")[0]
    return replace(step, reason=f"{why}; {explanation(checks, step.device)}")
