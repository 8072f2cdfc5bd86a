"""A second device without a GPU: it is asynchronous, its tensors are elsewhere, and a whole run measures it."""

import json
import os
import re
import sys
import textwrap

import pytest

from tests.conftest import PERF, ROOT, STEP, read
from tests.pretended.backend import COUNT, NAME, why_absent

# How many steps are timed depends on the speed, so only the first loss of a training step is comparable.
LOSSES = ["loss_first", "loss_last"]
# Three full batches, and little time: what is asked here does not depend on it.
FEW = """
from dataclasses import replace
from perf.harness.options import PROFILES

PROFILES["smoke"] = replace(PROFILES["smoke"], train_samples=1_536, case_s=0.05)
"""
KINDS = {"training_step", "inference", "epoch", "input_pipeline", "training_run"}


@pytest.fixture(scope="module")
def machine():
    """The environment of a process that has the device."""
    if reason := why_absent():
        pytest.skip(reason)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "pretended" / "package")])
    return {**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""}


@pytest.fixture(scope="module")
def told(machine, torch_process):
    """Runs a program that has the device; returns what the program printed, as JSON."""

    def run(program):
        begin = (
            "import json, torch, warnings\nfrom tests.pretended.work import WORK\ntorch.manual_seed(0)\n"
            "warnings.simplefilter('error')\n"
        )
        command = [sys.executable, "-c", begin + textwrap.dedent(program)]
        done = torch_process.run(command, cwd=ROOT, env=machine)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def perf_on(machine, digits_root, tmp_path, torch_process):
    """Runs the benchmarks on the CPU and on the device; returns the exit code, what is printed, and the record."""
    kept = tmp_path / "run.json"
    (tmp_path / "few.py").write_text(FEW)
    environment = {**machine, "PYTHONPATH": os.pathsep.join([machine["PYTHONPATH"], str(tmp_path)])}

    def run(*arguments, devices=1):
        environment[COUNT] = str(devices)
        options = [
            "--perf-profile=smoke", "--perf-rounds=1", "--perf-batch-size=512", f"--perf-device=cpu,{NAME}",
            "--perf-data=digits", f"--perf-data-root={digits_root}", f"--benchmark-json={kept}",
            f"--benchmark-storage={tmp_path}", "-p", "no:cacheprovider", "-p", "no:xdist", "--perf-passes=1",
            "-p", "few",
        ]  # fmt: skip
        command = [sys.executable, "-m", "pytest", *options, *map(str, arguments)]
        done = torch_process.run(command, cwd=ROOT, env=environment)
        return done.returncode, done.stdout + done.stderr, read(kept) if kept.exists() else {}

    return run


def test_torch_knows_the_device(told):
    assert told("""
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        ones = torch.ones(1, device="pretended")
        print(json.dumps([accelerator.type, torch.accelerator.device_count(), ones.is_cpu]))
    """) == [NAME, 1, False]


def test_a_value_is_there_only_after_a_wait(told):
    found = told("""
        from tests.pretended.storage import on_host
        ones = torch.ones(3, device="pretended")
        before, after = torch.Event("pretended", enable_timing=True), torch.Event("pretended", enable_timing=True)
        before.record()
        twos = ones + 1
        early = on_host(twos).isnan().all().item()
        after.record()
        state = [early, WORK.unfinished > 0, after.query()]
        torch.accelerator.synchronize()
        print(json.dumps([state, [on_host(twos).tolist(), WORK.unfinished, after.query()]]))
        assert before.elapsed_time(after) >= 0
    """)
    assert found == [[True, True, False], [[2, 2, 2], 0, True]]


def test_a_copy_to_the_host_waits_and_a_non_blocking_copy_to_the_device_does_not(told):
    assert told("""
        moved = torch.arange(3).to("pretended", non_blocking=True)
        outstanding = WORK.unfinished
        print(json.dumps([outstanding, (moved + 1).cpu().tolist(), WORK.unfinished]))
    """) == [1, [1, 2, 3], 0]


def test_a_tensor_of_the_cpu_among_those_of_the_device_is_an_error(told):
    error = told("""
        try:
            torch.ones(3, device="pretended") + torch.ones(3)
        except RuntimeError as error:
            print(json.dumps(str(error)))
    """)
    assert error.startswith("Expected all tensors to be on the same device, but found at least two devices")


def test_an_error_of_the_device_comes_with_the_next_wait(told):
    assert told("""
        rows = torch.ones(3, device="pretended").index_select(0, torch.tensor([7]).to("pretended"))
        try:
            torch.accelerator.synchronize()
        except IndexError as error:
            print(json.dumps(str(error)))
    """)


def test_memory_is_counted_and_bounded(told):
    assert told("""
        from torch.accelerator import max_memory_allocated, memory_allocated, reset_peak_memory_stats
        held = torch.empty(1000, device="pretended")
        used = memory_allocated()
        del held
        freed = memory_allocated()
        peak = max_memory_allocated()
        reset_peak_memory_stats()
        try:
            torch.empty(2**40, device="pretended")
        except torch.OutOfMemoryError as error:
            print(json.dumps([used, freed, peak, max_memory_allocated(), "out of memory" in str(error)]))
    """) == [4000, 0, 4000, 0, True]


@pytest.mark.parametrize(("network", "optimizer"), [("simple_nn", "SGD"), ("small_cnn", "Adam")])
def test_a_training_has_the_losses_of_the_cpu(told, network, optimizer):
    here, there = told(f"""
        import copy
        from model import TrainingStep, load_recipe
        recipe = load_recipe("{network}")
        images, labels = torch.randn(8, 1, 28, 28), torch.arange(8)
        first, losses = recipe.build(), []
        for device in ("cpu", "pretended"):
            model = copy.deepcopy(first).to(device)
            step = TrainingStep(model, torch.optim.{optimizer}(model.parameters(), lr=0.001), recipe.loss)
            batch = images.to(device), labels.to(device)
            losses.append([step(*batch).item() for _ in range(4)])
        print(json.dumps(losses))
    """)
    assert there == pytest.approx(here, rel=1e-5)
    assert here[-1] < here[0]


def test_each_pass_has_the_device(perf_on):
    code, printed, record = perf_on(STEP, "--perf-passes=2", f"--perf-device={NAME}")
    assert code == 0, printed
    (entry,) = record["benchmarks"]
    assert (entry["extra_info"]["device"], len(entry["extra_info"]["pass_rounds"])) == (NAME, 2)


def test_a_run_of_every_benchmark_reports_the_device_beside_the_cpu(perf_on):
    code, printed, record = perf_on(PERF)
    assert code == 0, printed
    cases = {}
    for entry in record["benchmarks"]:
        facts = entry["extra_info"]
        cases.setdefault((facts["benchmark"], facts["pipeline"]), {})[facts["device"]] = facts
    assert {kind for kind, _ in cases} == KINDS
    assert all(devices.keys() == {"cpu", NAME} for devices in cases.values())
    for (kind, pipeline), devices in cases.items():
        losses = {"training_step": ["loss_first"], "epoch": LOSSES, "training_run": LOSSES}.get(kind, [])
        for loss in losses:
            assert devices[NAME][loss] == pytest.approx(devices["cpu"][loss], rel=1e-3), (kind, pipeline)
    run = cases["training_run", "resident"]
    assert run[NAME]["accuracy"] == pytest.approx(run["cpu"]["accuracy"], abs=0.01)
    assert run[NAME]["device_name"] == "Pretended accelerator"
    assert re.search(rf"^ +512 +resident +{NAME} .*\d×", printed, re.MULTILINE)


def test_a_tensor_that_a_network_leaves_on_the_cpu_fails_on_the_device_and_not_on_the_cpu(perf_on, tmp_path):
    (tmp_path / "planted.py").write_text(
        textwrap.dedent("""
        import torch

        class Forgetful(torch.nn.Sequential):
            def __init__(self):
                super().__init__(torch.nn.Flatten(), torch.nn.Linear(784, 10))
                self.weight = torch.ones(10)

            def forward(self, images):
                return super().forward(images) * self.weight

        def network():
            return Forgetful()
        network.input_shape, network.classes = (1, 28, 28), 10
    """)
    )
    code, printed, record = perf_on(STEP, "--perf-model=planted:network")
    assert code == 1
    assert "Expected all tensors to be on the same device" in printed
    assert [entry["extra_info"]["device"] for entry in record["benchmarks"]] == ["cpu"]


def test_a_device_that_trains_otherwise_has_no_speedup(perf_on, tmp_path):
    (tmp_path / "planted.py").write_text(
        textwrap.dedent("""
        import torch

        class Larger(torch.nn.Sequential):
            def forward(self, images):
                logits = super().forward(images)
                return logits if images.is_cpu else logits * 1.01

        def network():
            return Larger(torch.nn.Flatten(), torch.nn.Linear(784, 10))
        network.input_shape, network.classes = (1, 28, 28), 10
    """)
    )
    code, printed, _ = perf_on(STEP, "--perf-model=planted:network")
    assert code == 0, printed
    assert "speedup vs cpu" not in printed
    said = f"No speedup of {NAME} over cpu for training step: {NAME} does not train as cpu does: the loss of step 1 at"
    assert said in " ".join(printed.split())


def test_a_run_that_does_not_wait_for_the_device_fails(perf_on, tmp_path):
    (tmp_path / "planted.py").write_text(
        textwrap.dedent("""
        from perf.harness.machine import devices

        devices.synchronizer = lambda device: lambda: None
    """)
    )
    code, printed, _ = perf_on(STEP, "-p", "planted")
    assert code == 1
    assert f"the clock was read before {NAME} had finished its work" in printed


def test_a_precision_that_the_device_does_not_have_is_skipped_and_not_measured_in_another(perf_on):
    code, printed, record = perf_on(STEP, f"--perf-device={NAME}", "--perf-precision=fp32,bf16", "-rs")
    assert code == 0, printed
    assert [entry["extra_info"]["precision"] for entry in record["benchmarks"]] == ["fp32"]
    assert f"bf16 on {NAME}: autocast on {NAME} computes in torch.float32, not in torch.bfloat16" in printed


def test_a_qualification_replays_the_training_on_the_device(perf_on):
    _, printed, record = perf_on(PERF, "--perf-profile=qualify", f"--perf-device={NAME}", "--perf-check=replay,errors")
    found = {(one["check"], one["variant"]): (one["verdict"], one["value"]) for one in record["perf"]["checks"]}
    assert found["replay", "self"] == ("PASS", 0), printed
    assert found["errors", "uncorrected"][0] == "UNSUPPORTED"
    assert not any(verdict == "FAIL" for verdict, _ in found.values())


def test_all_devices_train_alone_and_at_once(perf_on, tmp_path):
    (tmp_path / "planted.py").write_text(
        textwrap.dedent("""
        from perf.harness.machine.telemetry import sampler

        class Meter:
            def __init__(self, device):
                self.sample = lambda: {"power_w": 100.0 + int(device.name[-1]), "sm_clock_hz": 1e9}

        sampler.open_gpu = Meter
    """)
    )
    several = [
        "--perf-device=all",
        "--perf-rounds=15",
        "-p",
        "planted",
    ]
    code, printed, record = perf_on(PERF / "test_together.py", *several, devices=2)
    assert code == 0, printed
    (entry,) = record["benchmarks"]
    facts, names = entry["extra_info"], [f"{NAME}:0", f"{NAME}:1"]
    assert (entry["name"], facts["device"]) == (f"test_together[{NAME}-bs512]", NAME)
    for rates in (facts["alone_rates"], facts["together_rates"]):
        assert list(rates) == names
        assert all(rate > 0 for rate in rates.values())
    assert facts["together_power_w"] == dict(zip(names, (100, 101), strict=True))
    assert facts["together_clock_hz"] == dict.fromkeys(names, 1e9)
    assert "The 2 at once train" in printed


def test_one_device_is_not_several(perf_on):
    code, printed, _ = perf_on(PERF / "test_together.py", "-rs")
    assert code == 0, printed
    assert f"{NAME}: this machine has one {NAME} device" in printed
