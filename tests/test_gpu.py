"""What only a real GPU can answer. `pytest tests -m gpu` asks; elsewhere each question is skipped, with the reason."""

import json
import re
import subprocess
import sys
import threading
import time

import pytest
import torch
from torch import nn

from data import load, random_images
from model import Recipe, load_recipe, train_epoch
from perf.harness.machine import devices, memory
from perf.harness.machine.devices import Device
from perf.harness.machine.telemetry.nvml import open_gpu
from perf.harness.measurement import calls, parity
from perf.harness.measurement.capacity import largest
from perf.harness.measurement.checks import configuration
from perf.harness.measurement.phases import EventStopwatch, epoch_in_phases
from perf.harness.measurement.step_memory import OUT_OF_MEMORY, Tries
from perf.harness.record import read
from perf.harness.record.check import CheckVerdict
from perf.harness.report.quantities import duration
from perf.harness.verdict.checks import BEYOND, TOO_GOOD
from perf.harness.verdict.parity import ROUNDING, differs, relative_difference
from perf.harness.workload.modes import captured, execution
from perf.harness.workload.modes.mode import PLAIN, Mode
from perf.harness.workload.modes.precision import float32_products
from perf.harness.workload.workload import Workload
from tests.conftest import ROOT
from tests.gpu_page import FOUND

GPU = Device("cuda")
WHY_NONE = devices.why_absent("cuda")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(WHY_NONE is not None, reason=f"cuda: {WHY_NONE}")]
DATA = random_images((1, 28, 28), 10, 640, 64, seed=0)


def network(*between):
    return lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 32), *(make() for make in between), nn.Linear(32, 10))


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    "nadam": lambda parameters: torch.optim.NAdam(parameters, lr=1e-3),
    "rprop": lambda parameters: torch.optim.Rprop(parameters, lr=1e-3),
}
NETWORKS = {
    "plain": network(nn.ReLU),
    "dropout": network(nn.ReLU, lambda: nn.Dropout(0.5)),
    "batchnorm": network(lambda: nn.BatchNorm1d(32), nn.ReLU),
}


def workload(mode=PLAIN, net="plain", optimizer="sgd", device=GPU, data=DATA, pipeline=None):
    made = Recipe("tiny", NETWORKS[net], optimizer=OPTIMIZERS[optimizer])
    return Workload(made, data, device, 32, pipeline, 0, mode)


@pytest.fixture
def found(record_property):
    """Keeps what a question has measured, for the page at the end."""
    return lambda text: record_property(FOUND, text)


def clock():
    return calls.device_timer(devices.synchronizer(GPU))()


def ask(*arguments, timeout=300):
    """What `pytest perf/` says with these arguments, in a process of its own."""
    command = [sys.executable, "-m", "pytest", "perf/", "--perf-device=cuda", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    return done.returncode, done.stdout + done.stderr


def megabytes(count):
    return f"{count / 1e6:.0f} MB"


def in_seconds(said):  # 42 s, 2.5 min
    number, unit = said.split()
    return float(number) * {"s": 1, "min": 60}[unit]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("net", NETWORKS)
def test_a_captured_step_trains_as_eager_does(net, optimizer, found):
    mode = Mode("cudagraph")
    with mode.active():
        losses = parity.parity(workload(mode, net, optimizer), clock)
    found(f"losses differ by {losses.difference:.2g} at most")
    assert (losses.steps, losses.difference <= ROUNDING["fp32"]) == (parity.STEPS, True)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_second_gpu_is_captured_after_the_first(found):
    for device in (Device("cuda:0"), Device("cuda:1")):
        with devices.current(device):
            losses = parity.parity(workload(Mode("cudagraph"), device=device), clock)
            found(f"{device.name}: losses differ by {losses.difference:.2g} at most")
            assert losses.difference <= ROUNDING["fp32"]


def test_a_graph_that_is_empty_is_an_error():
    with pytest.raises(UserWarning, match="The CUDA Graph is empty"):
        captured.capture_cuda(lambda: torch.empty(0), lambda: None)


def test_a_step_is_captured_while_another_thread_pins_memory(found):
    work = workload(Mode("cudagraph"), pipeline="workers")
    pinned, ends = [0], threading.Event()

    def pin():
        while not ends.is_set():
            torch.empty(2**16 + pinned[0]).pin_memory()  # of a new size: torch gives out again what is free
            pinned[0] += 1

    thread = threading.Thread(target=pin)
    with work.open(work.data.train, "workers", 2) as pipeline:
        batches = list(pipeline.epoch(0))  # its own thread has pinned them
        trainee, first = work.trainee(), work.trainee()
        thread.start()
        try:
            before = pinned[0]
            losses = [trainee.step(*batch) for batch in batches]
            meanwhile = pinned[0] - before
        finally:
            ends.set()
            thread.join()
        again = [first.step(*batch) for batch in batches]  # captured while nothing pins
    found(f"{meanwhile} tensors were pinned meanwhile")
    assert meanwhile > 0
    assert torch.equal(torch.stack(losses), torch.stack(again))


WAITS = """
import torch
from perf.harness.workload.modes.captured import capture_cuda
def waits():
    x = torch.ones(2, device="cuda")
    return x * x.sum().item()
try:
    capture_cuda(waits, lambda: None)
except RuntimeError as error:
    print("refused:", str(error).splitlines()[0])
replay, result = capture_cuda(lambda: torch.ones(2, device="cuda") * 3, lambda: None)
replay()
print("then:", result.tolist())
"""


def test_what_waits_for_the_gpu_is_not_captured_and_the_next_capture_is_right(found):
    done = subprocess.run([sys.executable, "-c", WAITS], cwd=ROOT, capture_output=True, text=True, timeout=120)
    found(" ".join(done.stdout.split()))
    assert "refused:" in done.stdout, done.stderr
    assert "then: [3.0, 3.0]" in done.stdout, done.stderr


READS = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(784, 10)
    def forward(self, x):
        out = self.linear(x.flatten(1))
        return out * (1.0 if len(x) > 64 else out.sum().item())
"""


def test_a_case_that_waits_while_it_is_captured_fails_and_the_next_is_measured(tmp_path, found):
    (tmp_path / "reads.py").write_text(READS)
    target = tmp_path / "run.json"
    code, said = ask(
        f"--perf-model={tmp_path / 'reads.py'}", "--perf-execution=cudagraph", "--perf-profile=smoke",
        "--perf-batch-size=64,128", "-k", "training_step", f"--benchmark-json={target}",
    )  # fmt: skip
    measured = [one["name"] for one in json.loads(target.read_text())["benchmarks"]]
    found(f"measured: {', '.join(measured)}")
    assert code == 1, said
    assert "FAILED perf/test_training_step.py::test_training_step[cuda-bs64-cudagraph]" in said
    assert measured == ["test_training_step[cuda-bs128-cudagraph]"]


def test_an_epoch_as_graphs_is_the_epoch_that_eager_trains(found):
    data = random_images((1, 28, 28), 10, 32 * 7 + 5, 64, seed=0)  # the last batch is a short one
    captured, plain = (workload(mode, data=data) for mode in (Mode("cudagraph"), PLAIN))
    with captured.open(data.train, "resident") as pipeline:
        one, other = captured.trainee(), plain.trainee()
        for number in (0, 1):
            loss = execution.epoch(one.step, pipeline, number).item()
            difference = relative_difference(loss, train_epoch(other.step, pipeline.epoch(number)).item())
            found(f"epoch {number + 1}: losses differ by {difference:.2g}")
            assert difference < 1e-5


def product(x, y):
    return x @ y


def convolution(x, y):
    return nn.functional.conv2d(x.view(16, 64, 16, 16), y.flatten()[: 64 * 64 * 9].view(64, 64, 3, 3), padding=1)


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("operation", [product, convolution])
def test_tf32_is_off_and_on_as_asked_whatever_the_user_has_set(operation, new, found):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(512, 512, generator=generator) for _ in range(2))
    exact = operation(x.double(), y.double())
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    errors = {}
    try:
        if new:
            torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "tf32"
        for tf32 in (False, True):
            with float32_products(tf32=tf32):
                result = operation(x.cuda(), y.cuda()).cpu()
            errors[tf32] = float((result - exact).norm() / exact.norm())
    finally:
        torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = before
    found(f"error {errors[False]:.2g} without TF32, {errors[True]:.2g} with it")
    assert errors[False] < 1e-6
    assert 1e-4 < errors[True] < 1e-3


@pytest.mark.parametrize("mode", [Mode("eager", "bf16"), Mode("eager", "fp16"), Mode("eager", "tf32"), Mode("compile")])
def test_each_mode_trains_as_the_plain_way_does(mode, found):
    with mode.active():
        losses = parity.parity(workload(mode), clock)
    found(f"losses differ by {losses.difference:.2g} at most")
    assert losses.difference <= ROUNDING[mode.precision]


def test_the_clock_and_the_gpus_own_events_agree(found):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(1)
    before = clock()
    start.record()
    torch.cuda._sleep(10**9)
    end.record()
    wall = clock() - before
    found(f"clock {wall:.4f} s, events {start.elapsed_time(end) / 1e3:.4f} s")
    assert wall == pytest.approx(start.elapsed_time(end) / 1e3, rel=0.01)


def test_the_phases_of_an_epoch_add_up(found):
    work = workload()
    trainee, stopwatch = work.trainee(), EventStopwatch(GPU.torch_device)
    with work.open(work.data.train, "resident") as pipeline:
        epoch_in_phases(trainee.step, pipeline, EventStopwatch(GPU.torch_device))
        before = clock()
        epoch_in_phases(trainee.step, pipeline, stopwatch)
        wall = clock() - before
    phases = sum(stopwatch.seconds().values())
    found(f"phases {phases * 1e3:.2f} ms, epoch {wall * 1e3:.2f} ms")
    assert phases == pytest.approx(wall, rel=0.02)


@pytest.mark.parametrize("name", ["simple_nn", "small_cnn"])
def test_the_first_losses_are_those_of_the_cpu(name, digits_root, found):
    data = load("digits", digits_root).subset(640, 64)
    here, there = (Workload(load_recipe(name), data, device, 64, None, 0) for device in (Device("cpu"), GPU))
    with PLAIN.active():
        means = [work.trainee().mean_loss(work.batches(8)) for work in (here, there)]
        first = [parity.first_losses(work.trainee(), work.batches(8), clock, 60.0) for work in (here, there)]
    found(f"mean loss {means[0]:.6f} on the CPU, {means[1]:.6f} on the GPU")
    assert means[0] == pytest.approx(means[1], rel=1e-4)
    assert all(one is not None and len(one.losses) == len(parity.COMPARED) for one in first)
    assert differs(first[0].losses, first[1].losses, [one.rounding for one in first]) is None


@pytest.mark.parametrize("how", ["eager", "compile", "cudagraph"])
def test_too_little_memory_is_recognized_and_all_of_it_comes_back(how, found):
    mode = Mode(how)
    with mode.active():
        tries = Tries(workload(mode), clock)
        assert tries.fits(32)  # what the libraries keep from their first call on, they have now
        memory.free(GPU)
        before = memory.used_bytes(GPU)
        with memory.bounded_memory(GPU, 2**28):
            assert not tries.fits(10**6)
        memory.free(GPU)
        after = memory.used_bytes(GPU)
        assert tries.fits(32)
    found(f"{megabytes(before)} in use before, {megabytes(after)} after")
    assert tries.problems == {10**6: OUT_OF_MEMORY}
    assert after == before


SEGMENT = 20 * 2**20  # what the allocator asks for at once: a leak of half of a MiB for each capture is more


def test_forty_captures_take_no_more_memory_than_four(found):
    def reserved(captures):
        for _ in range(captures):
            trainee = workload(Mode("cudagraph")).trainee()
            trainee.step(*workload().batches(1)[0])
            del trainee
        memory.free(GPU)
        return torch.cuda.memory_reserved()

    few, many = reserved(4), reserved(40)
    found(f"{megabytes(few)}, {megabytes(many)}")
    assert many <= few + SEGMENT


def test_the_largest_batch_is_found_below_a_limit(tmp_path, found):
    limit, target, start = 10**9, tmp_path / "run.json", time.monotonic()
    code, said = ask("--perf-memory-limit=1GB", "-k", "largest_batch", f"--benchmark-json={target}")
    assert code == 0, said
    info = json.loads(target.read_text())["benchmarks"][0]["extra_info"]
    found(f"{info['largest_batch']} samples below {limit / 1e9:g} GB, in {time.monotonic() - start:.0f} s")
    assert (info["limited_by"], info["memory_limit_bytes"]) == ("out of memory", limit)
    assert time.monotonic() - start < 200


def test_the_largest_batch_takes_all_memory_below_the_limit(found):
    limit, tries = 10**9, Tries(workload(), clock)
    memory.free(GPU)
    before = torch.cuda.memory_reserved()
    with memory.bounded_memory(GPU, limit):
        size = largest(tries.fits, 32, tries.most).size
        memory.free(GPU)
        step = tries.training(size)
        for _ in range(2):  # the second has the optimizer's state
            step()
        taken = torch.cuda.memory_reserved() - before
    found(f"{size} samples take {taken / limit:.1%} of it")
    assert 0.95 * limit <= taken <= limit


def test_nvml_speaks_of_the_gpu_that_torch_uses(found):
    pynvml = pytest.importorskip("pynvml")
    gpu = open_gpu(GPU)
    assert pynvml.nvmlDeviceGetUUID(gpu._handle) == f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    sample = gpu.sample()
    found(f"{sample['sm_clock_hz'] / 1e6:.0f} MHz, {sample['power_w']:.0f} W")
    assert sample["sm_clock_hz"] > 0
    assert sample["power_w"] > 0


def test_the_link_is_at_its_fastest_under_load_and_ecc_is_as_the_maker_has_it(found):
    pytest.importorskip("pynvml")
    time.sleep(5)  # at rest, a link slows down
    rest, work = open_gpu(GPU).sample(), configuration.at_work(GPU)
    links = [f"generation {one.get('pcie_generation')} ×{one.get('pcie_width')}" for one in (rest, work)]
    ecc = {key: work.get(key) for key in ("ecc", "ecc_default")}
    found(f"{links[0]} at rest, {links[1]} under load; ECC {ecc['ecc']}, by default {ecc['ecc_default']}")
    assert work.get("pcie_generation") == work.get("pcie_generation_limit")
    assert ecc["ecc_default"] is None or bool(ecc["ecc"]) == bool(ecc["ecc_default"])


def test_a_healthy_gpu_is_qualified_in_the_time_that_was_promised(tmp_path, found):
    target = tmp_path / "qualify.json"
    code, said = ask("--perf-profile=qualify", f"--benchmark-json={target}", timeout=1800)
    promised = re.search(r"metrics?: about (.+?) \(", said)
    took = re.search(r" in ([\d.]+)s\b", said)
    assert promised and took, said
    seconds = float(took[1])
    checks = read.load(target).checks
    bad = [f"{one.check} {one.variant}".strip() for one in checks if one.verdict is CheckVerdict.FAIL]
    beyond = [f"{one.check} {one.variant}".strip() for one in checks if BEYOND in one.reason or TOO_GOOD in one.reason]
    found(f"{len(checks)} metrics, {len(bad)} FAIL, {len(beyond)} too good")
    found(f"promised {promised[1]}, took {duration(seconds)}")
    assert not bad, said
    assert not beyond, said
    assert code in (0, 10), said
    assert seconds <= 1.25 * in_seconds(promised[1])


def test_a_lower_precision_with_a_scaler_is_not_called_launch_bound(tmp_path):
    target = tmp_path / "run.json"
    code, said = ask("--perf-precision=fp16", "--perf-profile=smoke", "-k", "training_step", "--perf-batch-size=64",
                     f"--benchmark-json={target}")  # fmt: skip
    assert code == 0, said
    assert "enqueue_s" not in json.loads(target.read_text())["benchmarks"][0]["extra_info"]
