"""What `pytest tests -m gpu` prints at its end: the answers of the GPU, on a page that can be pasted into a ticket."""

from perf.harness.machine import devices, identity
from perf.harness.record.run import Run
from perf.harness.report.facts import header
from perf.harness.report.layout import PAGE, Column, Fixed, Notes, Table, page

# pytest's outcomes in the order of the page, and what they answer.
ANSWERS = {"failed": "NO", "error": "NO", "passed": "yes", "skipped": "not asked"}
FOUND = "found"  # the property in which a question keeps what it has measured


def pytest_terminal_summary(terminalreporter, config):
    if "gpu" not in config.option.markexpr:
        return
    rows = [
        (answer, question(report.nodeid), found(report, outcome))
        for outcome, answer in ANSWERS.items()
        for report in terminalreporter.getreports(outcome)
        if "gpu" in report.keywords
    ]
    if rows:
        terminalreporter.section("for the ticket")
        terminalreporter.write_line(page([Fixed(machine(), 10), *answers(rows)], PAGE))


def machine():
    """The lines of a run's header that say what machine this is, its driver and its software."""
    facts = {"environment": identity.environment(), "devices": identity.device_facts(devices.expand(["cpu", "cuda"]))}
    return header(Run("this machine", "", (), perf=facts))


def question(nodeid):
    """`test_gpu.py::test_it_works[plain-sgd]` as `it works [plain-sgd]`."""
    name, bracket, parameters = nodeid.rpartition("::")[2].partition("[")
    return name.removeprefix("test_").replace("_", " ") + bracket.replace("[", " [") + parameters


def found(report, outcome):
    """What was measured; why the answer is no, or why nothing was asked."""
    if outcome == "skipped":
        return report.longrepr[2].removeprefix("Skipped: ")
    said = [str(value) for name, value in report.user_properties if name == FOUND]
    if outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        said.insert(0, (crash.message if crash else str(report.longrepr)).splitlines()[0])
    return "; ".join(said)


def answers(rows):
    """A table of the questions, what was not asked in one line for each reason, and how many answers of each kind."""
    counts = {answer: sum(one == answer for one, *_ in rows) for answer in ("yes", "NO", "not asked")}
    asked = [row for row in rows if row[0] != "not asked"]
    reasons = dict.fromkeys(reason for answer, _, reason in rows if answer == "not asked")
    blocks = []
    if asked:
        given, questions, said = zip(*asked, strict=True)
        blocks.append(
            Table("Questions", [
                Column.names("question", questions), Column.words("answer", given), Column.names("found", said),
            ])
        )  # fmt: skip
    blocks.append(Notes([f"not asked: {reason}" for reason in reasons]))
    blocks.append(Notes([", ".join(f"{count} {answer}" for answer, count in counts.items() if count)]))
    return [block for block in blocks if not isinstance(block, Notes) or block.texts]
