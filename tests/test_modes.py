"""Modes compute what the plain way does; what cannot run says why; settings are restored."""

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch._inductor.runtime.cache_dir_utils import cache_dir

from model import Recipe, TrainingStep, train_epoch
from perf.harness.machine.devices import Device
from perf.harness.measurement import parity
from perf.harness.measurement.rounds import MeasurementError
from perf.harness.verdict.parity import NEAR, ROUNDING, same_training
from perf.harness.workload.axes import Axes
from perf.harness.workload.modes import compiled, compiler, execution, whole
from perf.harness.workload.modes.errors import Unsupported
from perf.harness.workload.modes.mode import PLAIN, Mode
from perf.harness.workload.modes.precision import FIRST_SCALE, float32_products, in_precision
from perf.harness.workload.workload import Workload
from tests.conftest import ROOT
from tests.small_training import CPU, DATA, adam, momentum, network, plain_sgd, ticks, workload


def test_the_plain_way_is_not_named_in_an_id():
    assert Axes("cpu", 64, None).id == "cpu-bs64"
    assert Axes("cuda:1", None, None, "compile").id == "cuda:1-compile"
    assert Axes("cpu", 64, "resident", "compile", "bf16").id == "cpu-bs64-resident-compile-bf16"


@given(batch_size=st.integers(2, 200), seed=st.integers(0, 2**31), precision=st.sampled_from(["bf16", "fp16"]))
@settings(max_examples=15)
def test_lower_precision_trains_almost_as_fp32_does(batch_size, seed, precision):
    found = parity.parity(workload(Mode("eager", precision), batch_size, seed), ticks)
    assert found.steps == parity.STEPS
    assert found.difference == 0
    assert found.distance > 0
    assert found.distance < NEAR[precision] or found.rounding is not None


@pytest.mark.parametrize("optimizer", [momentum, plain_sgd])
@pytest.mark.parametrize("mode", [Mode("compile"), Mode("compile", "bf16"), Mode("compile", "fp16")])
def test_compiled_steps_train_as_plain_ones(mode, optimizer):
    with mode.active():
        found = parity.parity(workload(mode, optimizer=optimizer), ticks)
    assert found.difference <= ROUNDING[mode.precision]


@pytest.mark.parametrize(
    ("options", "plain"),
    [({}, True), ({"momentum": 0.9}, False), ({"weight_decay": 0.1}, False), ({"maximize": True}, False)],
)
def test_only_sgd_without_anything_is_compiled_along(options, plain):
    assert compiled.is_plain_sgd(torch.optim.SGD(network().parameters(), lr=0.1, **options)) is plain
    assert not compiled.is_plain_sgd(adam(network().parameters()))


@pytest.mark.usefixtures("traced")
def test_a_learning_rate_that_is_changed_is_taken():
    mode = Mode("compile")
    work = workload(mode, optimizer=plain_sgd)
    with mode.active():
        compiled, plain = work.trainee(), replace(work, mode=PLAIN).trainee()
        for batch in work.batches(3):
            losses = [trainee.step(*batch).item() for trainee in (compiled, plain)]
            assert losses[0] == pytest.approx(losses[1], rel=1e-5)
            for trainee in (compiled, plain):
                trainee.step.optimizer.param_groups[0]["lr"] *= 10


@given(batch_size=st.integers(2, 200), seed=st.integers(0, 2**31))
@example(2, 207278424)  # its loss falls to 0.0003
@settings(max_examples=3)
def test_a_compiled_step_of_any_batch_size_trains_as_a_plain_one(batch_size, seed):
    mode = Mode("compile")
    with mode.active():
        found = parity.parity(workload(mode, batch_size, seed), ticks)
    assert same_training("fp32", found.difference, found.rounding or 0.0)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("mode", [Mode("compile"), Mode("cudagraph")])
def test_an_epoch_that_gathers_its_own_batches_is_the_same_epoch(graphs, mode):
    """The last batch is a smaller one."""
    work = workload(mode, batch_size=96, pipeline="resident")
    with mode.active(), work.open(work.data.train) as pipeline:
        trainee, plain = work.trainee(), replace(work, mode=PLAIN).trainee()
        for number in range(2):
            found = execution.epoch(trainee.step, pipeline, number)
            expected = train_epoch(plain.step, pipeline.epoch(number))
            assert found.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.fixture
def two_at_once(monkeypatch):
    """The small network has four parameters. Eight steps in a graph, as a user has, take far longer to compile."""
    monkeypatch.setattr(whole, "GRAPH_PARAMETERS", 8)


@pytest.mark.parametrize(
    ("optimizer", "batch_size", "code"), [(momentum, 48, "traced"), (plain_sgd, 48, "traced"), (plain_sgd, 64, None)]
)
def test_an_epoch_of_compiled_steps_several_at_once_is_the_same_epoch(
    two_at_once, request, optimizer, batch_size, code
):
    """Of batches of 48, the last full one is alone, and the last one is smaller: each of them is compiled for itself,
    which takes long."""
    if code is not None:
        request.getfixturevalue(code)
    work = workload(Mode("compile"), batch_size=batch_size, optimizer=optimizer, pipeline="resident")
    with work.mode.active(), work.open(work.data.train) as pipeline:
        trainee = work.trainee()
        assert trainee.step.steps_at_once == 2
        assert parity.epoch_apart(work, execution.epoch(trainee.step, pipeline, 0), pipeline) < 1e-5
        plain = replace(work, mode=PLAIN).trainee()
        train_epoch(plain.step, pipeline.epoch(0))
        for one, other in zip(trainee.model.parameters(), plain.model.parameters(), strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_an_epoch_with_dropout_drops_the_same(two_at_once):
    def dropping():
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.Dropout(0.5), nn.Linear(32, 10))

    work = replace(workload(Mode("compile"), batch_size=64, pipeline="resident"), recipe=Recipe("dropping", dropping))
    with work.mode.active(), work.open(work.data.train) as pipeline:
        trainee = work.trainee()
        trainee.restore()
        assert parity.epoch_apart(work, execution.epoch(trainee.step, pipeline, 0), pipeline) < 1e-4


def test_a_graph_has_eight_steps_of_a_small_network_and_one_of_many_parameters():
    deep = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), *(nn.Linear(8, 8) for _ in range(20)), nn.Linear(8, 10))
    for net, at_once in ((network(), 8), (deep, 1)):
        step = TrainingStep(net, plain_sgd(net.parameters()), nn.functional.cross_entropy)
        assert whole.WholeStep(step).steps_at_once == at_once


@pytest.mark.parametrize("wrong", ["the same batch again", "not every batch"])
def test_an_epoch_of_other_batches_is_caught(monkeypatch, wrong):
    def over(self, gather, batch_size):
        seen = []

        def run(indices):
            parts = torch.split(indices, batch_size)
            seen.append(parts[0])
            parts = [seen[0]] * len(parts) if wrong == "the same batch again" else parts[:1]
            return torch.stack([self.plain(*gather(part)) * len(part) for part in parts]).sum()

        return run

    monkeypatch.setattr(compiled.CompiledStep, "over", over)
    work = workload(Mode("compile"), pipeline="resident")
    with work.open(work.data.train) as pipeline:
        loss = execution.epoch(work.trainee().step, pipeline, 0)
        with pytest.raises(MeasurementError, match=r"^compile fp32 does not train the epoch that eager does: its "):
            parity.epoch_apart(work, loss, pipeline)


def test_an_epoch_of_a_plain_step_or_of_another_pipeline_is_train_epoch(monkeypatch):
    asked = []
    monkeypatch.setattr(execution, "train_epoch", lambda step, batches: asked.append(list(batches)))
    work = workload(batch_size=320)
    with work.open(work.data.train, "resident") as pipeline:
        execution.epoch(work.trainee().step, pipeline, 0)
    compiled = workload(Mode("compile"), batch_size=320)
    with compiled.open(work.data.train, "dataloader") as pipeline:
        execution.epoch(compiled.trainee().step, pipeline, 0)
    assert [len(batches) for batches in asked] == [2, 2]


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (Mode("cudagraph"), "cudagraph on cpu: CUDA graphs need a CUDA device"),
        (Mode("eager", "tf32"), "tf32 on cpu: TF32 needs a CUDA device"),
    ],
)
def test_what_a_device_cannot_run_says_why(mode, says):
    with pytest.raises(Unsupported) as caught:
        mode.check(CPU)
    assert str(caught.value) == says


def test_a_missing_compiler_is_a_reason(monkeypatch):
    def missing(call, **options):
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", missing)
    monkeypatch.setattr(compiler, "why_not_compiled", compiler.why_not_compiled.__wrapped__)
    with pytest.raises(Unsupported, match=r"^compile on cpu: torch.compile: No working C\+\+ compiler found$"):
        Mode("compile").check(CPU)


def test_a_compiler_that_is_turned_off_is_a_reason(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda call: call)
    monkeypatch.setattr(compiler, "why_not_compiled", compiler.why_not_compiled.__wrapped__)
    with pytest.raises(Unsupported, match=r"^compile on cpu: torch.compile: it is turned off \(TORCH_COMPILE_DIS"):
        Mode("compile").check(CPU)


class AsksTheHost(nn.Module):
    """Its second half depends on a value that is not known before the first has run."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(784, 32), nn.Linear(32, 10)

    def forward(self, images):
        hidden = self.first(images.flatten(1)).relu()
        return self.second(hidden if hidden.sum().item() < 1e9 else -hidden)


@pytest.mark.usefixtures("traced")
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, of a graph in pieces
@pytest.mark.parametrize("network", [network, AsksTheHost])
def test_a_network_that_is_not_one_graph_says_why(network):
    mode = Mode("compile")
    work = Workload(Recipe("one", network), DATA, Device("cpu"), 32, None, 0, mode)
    with mode.active(anew=True, cache=Path(cache_dir())):
        work.trainee().step(*work.batches(1)[0])
        assert ("Tensor.item()" in (compiler.graph_break() or "")) is (network is AsksTheHost)
    with mode.active(anew=True, cache=Path(cache_dir())):
        assert compiler.graph_break() is None


def test_nobody_else_listens_to_torchs_trace_meanwhile():
    trace, heard = logging.getLogger("torch.__trace"), logging.Handler()
    trace.addHandler(heard)
    try:
        with pytest.raises(ZeroDivisionError), compiler.untraced():
            assert heard not in trace.handlers
            raise ZeroDivisionError
        assert heard in trace.handlers
    finally:
        trace.removeHandler(heard)


def test_a_precision_without_products_is_a_reason(monkeypatch):
    def missing(*operands):
        raise RuntimeError("'addmm_impl_cpu_' not implemented for 'Half'")

    monkeypatch.setattr(torch, "mm", missing)
    with pytest.raises(Unsupported, match="not implemented for 'Half'"):
        Mode("eager", "fp16").check(CPU)


def test_torchs_settings_are_those_of_before_whatever_happens():
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    def known():
        cudnn = torch.backends.cudnn
        return (
            torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark, cudnn.enabled,
            inductor.fallback_random, getattr(dynamo, "trace_autograd_ops", None),
        )  # fmt: skip

    before = known()
    for mode in (Mode("compile", "tf32"), Mode("eager", "fp32")):
        with pytest.raises(ZeroDivisionError), mode.active():
            assert torch.get_float32_matmul_precision() == ("high" if mode.precision == "tf32" else "highest")
            assert torch.backends.cudnn.allow_tf32 == (mode.precision == "tf32")
            assert torch.backends.cudnn.benchmark == (mode != Mode())  # the plain way is torch as it is
            raise ZeroDivisionError
        assert known() == before


SET_BY_THE_USER = """
import json, sys, torch
from perf.harness.workload.modes.precision import float32_products
backends = torch.backends
exec(sys.argv[1])
def known():
    host = backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn
    operations = backends, backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, *host
    return [operation.fp32_precision for operation in operations]
found = [known()]
for tf32 in (False, True):
    with float32_products(tf32=tf32):
        found.append([*known()[1:], torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32])
    found.append(known())
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    "setting",
    [
        "pass",
        "torch.backends.fp32_precision = 'tf32'",
        "torch.backends.cudnn.conv.fp32_precision = 'ieee'; torch.backends.cuda.matmul.fp32_precision = 'tf32'",
        "torch.backends.cuda.matmul.allow_tf32 = True; torch.backends.cudnn.allow_tf32 = False",
        "torch.set_float32_matmul_precision('medium')",
        "torch.backends.cudnn.fp32_precision = 'tf32'; torch.backends.cudnn.rnn.fp32_precision = 'ieee'",
        "torch.backends.mkldnn.fp32_precision = 'bf16'",
        "torch.backends.mkldnn.conv.fp32_precision = 'bf16'; torch.backends.mkldnn.rnn.fp32_precision = 'tf32'",
    ],
)
def test_float32_is_what_is_asked_for_whatever_the_user_has_set(setting, torch_process):
    """In a process of its own: torch cannot forget that both kinds of settings were used."""
    done = torch_process.run([sys.executable, "-c", SET_BY_THE_USER, setting], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    before, off, after_off, on, after_on = json.loads(done.stdout)
    assert off == ["ieee"] * 6 + ["highest", False]
    assert on == ["tf32"] * 6 + ["high", True]
    assert before == after_off == after_on


def test_a_users_own_setting_of_cudnn_is_kept_meanwhile(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with float32_products(tf32=False):
        assert torch.backends.cudnn.benchmark


def test_fp16_is_scaled_and_begins_with_the_first_scale_again():
    work = workload(Mode("eager", "fp16"))
    trainee = work.trainee()
    trainee.step(*work.batches(1)[0])
    trainee.plain.scaler.update(7.0)
    trainee.restore()
    assert trainee.plain.scaler.get_scale() == FIRST_SCALE
    model = network()
    step = in_precision(TrainingStep(model, momentum(model.parameters()), nn.functional.cross_entropy), "bf16", CPU)
    assert step.scaler is None
