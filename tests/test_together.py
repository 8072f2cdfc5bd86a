"""All devices of a kind at once: what is asked of their workers and when, which cases there are, and the report."""

import pytest

from perf.harness.machine import devices
from perf.harness.machine.devices import Device
from perf.harness.measurement.rounds import MeasurementError
from perf.harness.measurement.side_by_side.link import SideError
from perf.harness.measurement.together import VISITS, Steps, Together
from perf.harness.options import resolve
from perf.harness.report import render
from perf.harness.workload.plan import Plan
from tests.conftest import ROOT
from tests.report_runs import benchmark, run

ALONE_S = {"cuda:0": 0.01, "cuda:1": 0.02}


class FakeWorker:
    """A device: a step takes twice as long while another device has work. `log` is what has been asked of all."""

    def __init__(self, name, log, problem=""):
        self.name, self.log, self.problem, self.answered = name, log, problem, 0

    def request(self, do, **arguments):
        if self.log and self.log[-1][1] == "reply":
            del self.log[:]  # everybody has answered
        self.log.append((self.name, do))

    def reply(self, limit_s):
        (do,) = {do for name, do in self.log if do != "reply"}
        busy = {name for name, do in self.log if do == "visit"}
        self.log.append((self.name, "reply"))
        if do == self.problem == "load":
            raise SideError("no memory is left")
        if do != "visit":
            return {"step_s": ALONE_S[self.name], "problem": self.problem}
        self.answered += 1
        edge = self.answered % VISITS in (1, 0)  # the first or the last visit in a row: another device is not there
        return {"wall_s": [ALONE_S[self.name] * (2 if len(busy) > 1 and not edge else 1)]}

    def close(self): ...


def made(**problems):
    log = []
    workers = {name: FakeWorker(name, log, problems.get(name.replace(":", ""), "")) for name in ALONE_S}
    return Together(workers, {name: {"kind": "training_step", "device": name} for name in ALONE_S}, seconds=5.0), log


def test_each_device_is_compared_with_itself_alone():
    together, _ = made()
    together.prepare()
    found = together.compare()
    assert found == Steps(ALONE_S, {"cuda:0": 0.02, "cuda:1": 0.04})
    assert together.steps_at_once == VISITS * (21 + 11)  # 0.2 s and one more: the first step of a visit does not count


def test_all_devices_have_their_work_before_any_of_them_answers():
    together, log = made()
    together.prepare()
    together.at_once()
    assert [do for _, do in log] == ["visit"] * 2 * VISITS + ["reply"] * 2 * VISITS


@pytest.mark.parametrize("problem", ["load", "the loss did not fall"])
def test_what_fails_on_one_device_names_the_device(problem):
    together, _ = made(cuda1=problem)
    with pytest.raises(MeasurementError, match=r"^cuda:1: (no memory is left|the loss did not fall)$"):
        together.prepare()
        together.finish()


@pytest.fixture
def plan(monkeypatch):
    """Makes the plan of a run on a machine with some GPUs."""

    def of(wanted, gpus):
        def why_absent(name):
            number = int(name.partition(":")[2] or 0)
            return "no driver" if not gpus else None if number < gpus or name == "cpu" else "not there"

        monkeypatch.setattr(devices, "why_absent", why_absent)
        monkeypatch.setattr(devices, "_accelerators", lambda: [f"cuda:{number}" for number in range(gpus)])
        monkeypatch.setattr(devices.torch.accelerator, "device_count", lambda: gpus)
        for facts in ("device_facts", "environment", "fingerprint"):
            monkeypatch.setattr(f"perf.harness.workload.plan.{facts}", lambda *of: {})
        return Plan.of(resolve({"device": wanted, "data": "digits"}, {}, "", ROOT / "data"))

    return of


@pytest.mark.parametrize(
    ("wanted", "gpus", "cases", "why_not"),
    [
        ("all", 2, ["cuda-bs4096"], None),
        ("cpu,cuda", 0, ["cuda-bs4096"], "no driver"),
        ("cpu,cuda", 1, ["cuda-bs4096"], "this machine has one cuda device"),
        ("cpu,cuda", 8, ["cuda-bs4096"], "only cuda of 8 is measured; --perf-device=all measures all"),
        ("cuda,cuda:0", 2, ["cuda-bs4096"], "only cuda of 2 is measured; --perf-device=all measures all"),
        ("cuda:0,cuda:1,cuda:7", 2, ["cuda-bs4096"], None),
        ("cpu", 2, [], None),
    ],
)
def test_the_devices_of_a_kind_are_one_case(plan, wanted, gpus, cases, why_not):
    made = plan(wanted, gpus)
    found = made.axes("together")
    assert [axes.id for axes in found] == cases
    assert [made.why_alone(axes.device) for axes in found] == [why_not] * len(cases)


def test_a_case_of_a_kind_has_the_first_device_of_it(plan):
    made = plan("cpu,cuda:1,cuda:0", 2)
    assert made.device("cuda") == Device("cuda:1")
    assert made.device("cpu") == Device("cpu")


def together_run(**info):
    rates = {"alone_rates": {"cuda:0": 1000.0, "cuda:1": 1000.0}, "together_rates": {"cuda:0": 990.0, "cuda:1": 800.0}}
    return run(benchmark("together", "cuda", 4096, **rates | info))


def test_the_report_says_what_the_devices_reach_together():
    text = render([together_run(together_power_w={"cuda:0": 690.4, "cuda:1": 512.0})])
    table = [line.split() for line in text.splitlines() if line.startswith(("device", "cuda:"))]
    assert table == [
        ["device", "samples/s", "alone", "at", "once", "share", "power"],
        ["cuda:0", "1,000", "990", "99%", "690", "W"],
        ["cuda:1", "1,000", "800", "80%", "512", "W"],
    ]
    said = (
        "The 2 at once train 1,790 samples/s: 90% of the sum of what each trains alone. cuda:1 loses most: it reaches"
    )
    assert f"{said} 80% of its own rate." in " ".join(text.split())


def test_the_report_counts_in_the_unit_of_the_training():
    text = render([together_run(unit="tokens", units_per_sample=10.0, together_clock_hz={"cuda:1": 1.98e9})])
    assert "tokens/s alone" in text
    assert "train 17,900 tokens/s" in text
    assert "1,980 MHz" in text


def test_a_record_without_the_rates_has_no_table():
    assert "at once" not in render([together_run(together_rates={})])
