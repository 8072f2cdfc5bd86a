"""What a run knows of itself: its cases, its fingerprint, and why it is no baseline."""

import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.machine import identity, load
from perf.harness.options import EXECUTIONS, PIPELINES, PRECISIONS, SettingsError
from perf.harness.plugin.state import State
from perf.harness.workload import plan
from perf.harness.workload.axes import Axes
from perf.harness.workload.benchmarks import endless
from perf.harness.workload.plan import Plan
from perf.harness.workload.workload import MINIMAL_BATCH, Workload, load_data
from tests.conftest import settled


@given(
    st.builds(
        Axes,
        st.sampled_from(["cpu", "cuda", "cuda:1"]),
        st.none() | st.integers(1, 10**6),
        st.none() | st.sampled_from(PIPELINES),
        st.sampled_from(EXECUTIONS),
        st.sampled_from(PRECISIONS),
        st.none() | st.sampled_from(["simple_nn", "timm.vit-b_16", "mine-bs64.Net"]),
    )
)
def test_the_name_of_a_case_says_all_of_it(axes):
    assert Axes.of(axes.id) == axes


@pytest.mark.parametrize("id", ["bs64", "compile", "resident", "bf16", "x"])
def test_a_name_that_is_none_of_ours_is_taken_for_a_device(id):
    assert Axes.of(id) == Axes(id, None, None)


@pytest.fixture
def run(digits_root):
    made = Plan.of(settled(digits_root))
    made = made.prepared()
    return made


def test_slow_pipelines_run_at_the_first_batch_size_only(digits_root):
    made = Plan.of(settled(digits_root))
    cases = made.axes("input_pipeline")
    assert [(axes.device, axes.batch_size, axes.pipeline) for axes in cases] == [
        ("cpu", 64, "dataloader"), ("cpu", 64, "workers"), ("cpu", 64, "resident"),
        ("cpu", 512, "resident"), ("cpu", 4096, "resident"),
    ]  # fmt: skip


def test_a_training_run_takes_the_first_batch_size_and_the_resident_pipeline(run):
    assert run.axes("training_run") == [Axes("cpu", None, None)]
    work = run.workload("cpu", None, None)
    assert (work.batch_size, work.pipeline) == (64, "resident")


def test_smoke_takes_a_subset_and_standard_the_whole_set(digits_root, run):
    assert (len(run.network().data.train), len(run.network().data.test)) == (6_400, 1_000)
    standard = settled(digits_root, profile="standard")
    whole = load_data(run.network().recipe, standard)
    assert (len(whole.train), len(whole.test)) == (60_000, 10_000)


def test_a_batch_that_exceeds_the_data_is_refused(digits_root):
    made = Plan.of(settled(digits_root, batch_size="64,6401"))
    with pytest.raises(SettingsError, match=r"batch size 6401 is more than the 6,400 training samples of digits"):
        made = made.prepared()


def test_a_steps_batches_are_32_distinct_full_ones(run):
    for batch_size in (64, 4096):
        batches = run.workload("cpu", batch_size, None).batches()
        assert [len(labels) for _, labels in batches] == [batch_size] * 32
        assert len({images.sum().item() for images, _ in batches}) == 32


@pytest.mark.parametrize(("batch_size", "batches"), [(1, 32), (4, 32), (16, 16), (31, 9), (32, 8), (4096, 8)])
def test_the_loss_is_that_of_at_least_256_samples_or_of_all_that_a_step_trains_on(run, batch_size, batches):
    assert run.workload("cpu", batch_size, None).loss_batches == batches


def test_a_stream_of_batches_goes_on_from_epoch_to_epoch(run):
    work = run.workload("cpu", 4096, "resident")
    with work.full_batches() as pipeline:
        stream = endless(pipeline.epoch)
        first, second = next(stream), next(stream)
    assert pipeline.batches == 1
    assert not first[0].equal(second[0])


def test_the_minimal_workload_has_two_samples(run):
    work = run.workload("cpu", 64, None)
    assert isinstance(work, Workload)
    assert len(work.minimal().batches(1)[0][1]) == MINIMAL_BATCH


def test_a_restored_network_is_the_one_that_was_built(run):
    work = run.workload("cpu", 64, None)
    trainee, twin = work.trainee(), work.trainee()
    batches = work.batches(4)
    first = trainee.mean_loss(batches)
    for batch in batches:
        trainee.step(*batch)
    assert trainee.mean_loss(batches) < first
    trainee.restore()
    assert trainee.mean_loss(batches) == first
    assert all(a.equal(b) for a, b in zip(trainee.model.parameters(), twin.model.parameters(), strict=True))


def test_the_fingerprint_changes_with_what_decides_the_speed_and_with_nothing_else(monkeypatch, digits_root):
    first = Plan.of(settled(digits_root)).fingerprint_id
    monkeypatch.setattr(plan.socket, "gethostname", lambda: "elsewhere")
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(total=1, available=2**40))
    assert Plan.of(settled(digits_root, seed="7")).fingerprint_id == first
    assert Plan.of(settled(digits_root, profile="standard")).fingerprint_id != first
    monkeypatch.setattr(identity, "cpu_model", lambda: "Another CPU")
    assert Plan.of(settled(digits_root)).fingerprint_id != first


def test_a_fingerprints_name_is_fit_for_a_folder():
    fields = {"profile": "smoke", "model": "my.package:factory/../x y", "data": "random"}
    name = identity.fingerprint_id(fields)
    assert name.startswith("smoke-my.package_factory_.._x_y-random-")
    assert len(identity.fingerprint_id(fields | {"model": "m" * 500})) < 80


@pytest.mark.parametrize(
    ("outcomes", "unfit", "complete", "reason"),
    [
        (["measured", "skipped"], [], True, None),
        (["measured", "failed", "failed"], [], True, "2 failed"),
        (["measured", "out-of-memory"], [], True, "1 out of memory"),
        (["measured", "not-run"], ["3 deselected"], True, "1 not run"),
        (["measured"], ["3 deselected"], False, "it did not finish"),
        (["measured"], ["3 deselected"], True, "3 deselected"),
    ],
)
def test_a_run_is_a_baseline_only_if_every_case_was_measured_or_skipped(run, outcomes, unfit, complete, reason):
    run = State(run, unfit=unfit, complete=complete)
    for number, outcome in enumerate(outcomes):
        run.end(f"case {number}", outcome)
    assert run.why_no_baseline() == reason


@pytest.mark.parametrize(
    ("others", "threads", "few"), [(0.0, 2, 0.0), (0.5, 2, 0.5), (0.9, 1, 0.0), (1.5, 1, 0.5), (60.0, 16, 60.0)]
)
def test_crowding_is_the_cores_that_are_missing(has_cores, others, threads, few):
    has_cores(2)
    assert load.crowding(others, threads) == pytest.approx(few)


@pytest.mark.parametrize(
    ("others", "threads", "few"),
    [
        (1.0, 4, 0.5), (4.0, 4, 2.0),  # each beside a thread of ours, on the same physical core
        (2.0, 2, 0.0), (3.0, 2, 0.5),  # two physical cores are free
        (5.0, 4, 1.0 + 2.0), (1.0, 8, 1.0), (0.0, 8, 0.0), (0.0, 9, 0.0),  # no core is left
    ],
)  # fmt: skip
def test_others_that_share_a_physical_core_with_a_thread_of_ours_take_half_of_it(has_cores, others, threads, few):
    has_cores(8, physical=4)
    assert load.crowding(others, threads) == pytest.approx(few)


@pytest.mark.parametrize(
    ("option", "origin"), [("device", "--perf-device"), ("require_device", "--perf-require-device")]
)
def test_a_device_that_torch_does_not_know_is_refused_with_its_origin(digits_root, option, origin):
    with pytest.raises(SettingsError, match=rf"^{origin}: 'gpu' is not a device; use cpu, cuda"):
        Plan.of(settled(digits_root, **{option: "cpu,gpu"}))
