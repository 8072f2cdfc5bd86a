"""Rows in, verdicts out: which device, pipeline and mode is fastest, and what is too uncertain to say."""

import pytest

from perf.harness.record import Case
from perf.harness.statistics.intervals import Ratio
from perf.harness.verdict.fastest import (
    Lack,
    Relation,
    Training,
    best_against_best,
    by_mode,
    duels,
    fastest_ways,
    leads,
    relation,
    slow_inside,
)
from perf.harness.verdict.parity import CARRIED, ROUNDING, same_training
from perf.harness.verdict.speedups import Speedups
from tests.report_runs import benchmark, run, steps

PLAIN, COMPILED = ("eager", "fp32"), ("compile", "fp32")
SCATTERED = (0.6, 1.0, 1.7, 0.6, 1.0, 1.7)


def rows_of(*benchmarks):
    return Speedups.of([run(*benchmarks)]).rows


@pytest.mark.parametrize(
    ("speedup", "found"),
    [
        (None, Relation.UNKNOWN),
        (Ratio(2.0), Relation.UNKNOWN),
        (Ratio(2.0, 1.9, 2.1), Relation.FASTER),
        (Ratio(0.5, 0.4, 0.6), Relation.SLOWER),
        (Ratio(1.1, 0.9, 1.3), Relation.ALIKE),
        (Ratio(1.1, 1.0, 1.3), Relation.ALIKE),
    ],
)
def test_a_device_is_faster_only_if_the_whole_interval_says_so(speedup, found):
    assert relation(speedup) is found


# Devices


def kinds_of(*benchmarks):
    return [(group[0].kind, group[0].mode[0], len(group)) for group in duels(Speedups.of([run(*benchmarks)]))]


def test_the_training_step_decides_before_the_epoch_and_the_training_run_is_always_said():
    both = [
        benchmark(kind, d) for kind in ("inference", "epoch", "training_run", "input_pipeline") for d in ("cpu", "cuda")
    ]
    assert kinds_of(*both) == [("epoch", "eager", 1), ("training_run", "eager", 1)]
    sizes = [benchmark("training_step", d, b) for d in ("cpu", "cuda") for b in (64, 512)]
    assert kinds_of(*both, *sizes) == [("training_step", "eager", 2), ("training_run", "eager", 1)]
    assert kinds_of(*both[:2]) == [("inference", "eager", 1)]
    assert kinds_of(*both[6:]) == kinds_of(benchmark("epoch")) == []


def test_another_mode_decides_only_where_eager_fp32_was_not_compared():
    compiled = [benchmark("training_step", d, execution="compile") for d in ("cpu", "cuda")]
    plain = [benchmark("training_step", d) for d in ("cpu", "cuda")]
    assert kinds_of(*compiled, *plain) == [("training_step", "eager", 1)]
    assert kinds_of(*compiled, plain[0]) == [("training_step", "compile", 1)]


# Epochs

WAITS = {"phases_s": {"data_wait": 9.0, "copy": 0.0}, "phases_wall_s": 10.0}


def training(*benchmarks):
    return Training.of(rows_of(*benchmarks))


def test_an_epoch_is_compared_with_the_step_and_the_pipeline_of_its_batch_size():
    found = training(
        benchmark("training_step", batch=64, seconds=1.0),
        benchmark("training_step", batch=512, seconds=1.0),
        benchmark("epoch", batch=64, pipeline="dataloader", seconds=9.0, **WAITS),
        benchmark("epoch", batch=64, pipeline="workers", seconds=4.0),
        benchmark("epoch", batch=64, pipeline="resident", seconds=3.0),
        benchmark("epoch", batch=512, pipeline="resident", seconds=0.1),
        benchmark("input_pipeline", batch=512, pipeline="dataloader", seconds=7.0),
        benchmark("input_pipeline", batch=64, pipeline="workers", seconds=5.0),
        benchmark("input_pipeline", batch=64, pipeline="dataloader", seconds=2.0),
    )
    assert (found.step.batch_size, found.epoch.pipeline, found.better.pipeline) == (64, "dataloader", "resident")
    assert (found.supply.batch_size, found.supply.pipeline) == (64, "dataloader")


def test_without_an_epoch_the_fastest_step_is_said_and_without_phases_no_epoch():
    pair = [benchmark("training_step", batch=b, seconds=1.0) for b in (512, 64)]
    assert training(*pair).step.batch_size == 512
    found = training(*pair, benchmark("epoch", batch=64, pipeline="dataloader"))
    assert (found.step.batch_size, found.epoch, found.supply, found.better) == (64, None, None, None)
    found = training(benchmark("epoch", pipeline="resident", **WAITS))
    assert (found.step, found.epoch) == (None, None)


@pytest.mark.parametrize(("seconds", "slow"), [(2.0, True), (1.0, False), (0.5, False)])
def test_a_pipeline_is_named_only_if_it_is_slower_than_the_step(seconds, slow):
    found = training(
        benchmark("training_step"),
        benchmark("epoch", pipeline="dataloader", **WAITS),
        benchmark("input_pipeline", pipeline="dataloader", seconds=seconds),
    )
    assert (found.supply is not None) == slow


def test_unsteady_steps_and_pipelines_say_nothing_of_an_epoch():
    found = training(
        benchmark("training_step", samples=SCATTERED),
        benchmark("epoch", pipeline="dataloader", **WAITS),
        benchmark("input_pipeline", pipeline="dataloader", seconds=9.0, samples=SCATTERED),
    )
    assert (found.step, found.supply) == (None, None) and found.epoch is not None


def test_a_pipeline_that_is_slower_or_may_be_is_not_better():
    plain = benchmark("epoch", pipeline="dataloader", **WAITS)
    assert training(plain, benchmark("epoch", pipeline="workers", seconds=2.0)).better is None
    assert training(plain, benchmark("epoch", pipeline="workers", seconds=0.9, samples=SCATTERED)).better is None


def test_of_several_modes_the_epochs_of_eager_fp32_are_taken():
    found = training(
        benchmark("epoch", pipeline="dataloader", execution="compile", seconds=1.0, **WAITS),
        benchmark("epoch", pipeline="dataloader", seconds=2.0, **WAITS),
    )
    assert found.epoch.plain


STEP = {"forward": 100.0, "backward": 100.0, "optimizer": 100.0}  # of 100 batches: 3 s each


@pytest.mark.parametrize(
    ("alone_s", "device", "pipeline", "phases", "info", "times"),
    [
        (1.0, "cpu", "workers", STEP, {}, [3.0]),
        (0.9, "cpu", "workers", STEP, {}, [300 / 90]),
        (1.01, "cpu", "workers", STEP, {}, []),
        (1.0, "cpu", "workers", {"backward": 300.0}, {}, [3.0]),
        (1.0, "cpu", "workers", STEP, {"phases_batches": 50}, [6.0]),
        (1.0, "cpu", "workers", STEP, {"samples_per_iteration": 6337}, [3.0]),  # the last batch has one sample
        (1.0, "cpu", "workers", STEP, {"samples_per_iteration": None}, []),
        (1.0, "cpu", "workers", STEP, {"crowding": 0.3}, []),
        (1.0, "cpu", "dataloader", STEP, {}, []),
        (1.0, "cuda", "workers", STEP, {}, []),
        (None, "cpu", "workers", STEP, {}, []),
    ],
)
def test_a_step_that_takes_three_times_as_long_beside_worker_processes_is_found(
    alone_s, device, pipeline, phases, info, times
):
    epoch = benchmark("epoch", device, 64, pipeline, seconds=300.0, phases_s=phases,
                      **{"samples_per_iteration": 6400} | info)  # fmt: skip
    steps_alone = [] if alone_s is None else [benchmark("training_step", device, 64, seconds=alone_s)]
    found = slow_inside(rows_of(epoch, *steps_alone, benchmark("training_step", device, 512, seconds=0.1)))
    assert [slower for _, slower in found] == pytest.approx(times)


# Modes


def ways(times, **info):
    return fastest_ways(by_mode(rows_of(*steps(times, **info))))


def test_only_networks_with_modes_have_a_fastest_way():
    rows = rows_of(*steps({(64, *PLAIN): 1.0, (64, *COMPILED): 0.5}), *steps({(64, *PLAIN): 1.0}, model="other"))
    assert {row.model for row in by_mode(rows)} == {"simple_nn"} and len(by_mode(rows)) == 2
    assert by_mode(rows_of(benchmark("epoch", execution="compile"), benchmark("training_step"))) == []


@pytest.mark.parametrize(
    ("times", "batch", "mode", "gain"),
    [
        ({(64, *PLAIN): 1.0, (64, *COMPILED): 0.5}, 64, COMPILED, 2.0),
        ({(64, *PLAIN): 1.0, (64, *COMPILED): 2.0}, 64, PLAIN, Lack.OTHERS_NOT_FASTER),
        ({(64, *PLAIN): 1.0, (512, *COMPILED): 1.0}, 512, COMPILED, Lack.PLAIN_NOT_MEASURED),
        ({(512, *PLAIN): 1.0, (64, *COMPILED): 1.0}, 512, PLAIN, Lack.OTHERS_NOT_MEASURED),
    ],
)
def test_the_fastest_way_is_certainly_faster_or_says_what_is_lacking(times, batch, mode, gain):
    [way] = ways(times)
    assert (way.row.batch_size, way.row.mode) == (batch, mode)
    assert way.gain is gain if isinstance(gain, Lack) else way.gain.point == pytest.approx(gain)


@pytest.mark.parametrize("info", [{"samples": SCATTERED}, {"throttled_rounds": 1}, {"crowding": 0.3}])
def test_a_time_that_does_not_count_is_told_from_one_that_was_not_measured(info):
    good = steps({(64, *PLAIN): 1.0, (64, *COMPILED): 0.9})
    for others, lack in (((512, *PLAIN), Lack.PLAIN_NOT_STEADY), ((512, *COMPILED), Lack.OTHERS_NOT_STEADY)):
        mine = COMPILED if lack is Lack.PLAIN_NOT_STEADY else PLAIN
        [way] = fastest_ways(rows_of(*good, *steps({(512, *mine): 1.0}), *steps({others: 0.1}, **info)))
        assert (way.row.batch_size, way.row.mode, way.gain) == (512, mine, lack)


@pytest.mark.parametrize(
    ("batch", "mode", "counts"),
    [
        (1, COMPILED, True),
        (0.5, COMPILED, False),
        (None, COMPILED, False),
        (64, ("x", "fp32"), False),
        (64, ("eager", "int4"), False),
    ],
)
def test_only_what_options_can_choose_is_a_way_to_train(batch, mode, counts):
    rate = {} if batch else {"samples_per_iteration": 64}
    odd = benchmark("training_step", batch=batch, seconds=0.001, execution=mode[0], precision=mode[1], **rate)
    found = fastest_ways(rows_of(odd, *steps({(512, *PLAIN): 100.0, (512, *COMPILED): 90.0})))
    assert (found[0].row.batch_size == batch) == counts


def test_a_run_that_ended_early_says_so_of_its_training_steps_only():
    step, epoch = "test_training_step[x]", "test_epoch[x]"
    for name, outcome, ended in ((step, "not-run", True), (step, "failed", False), (epoch, "not-run", False)):
        rows = Speedups.of([run(*steps({(64, *PLAIN): 1.0, (64, *COMPILED): 0.5}), cases=[Case(name, outcome)])]).rows
        assert fastest_ways(rows)[0].ended == ended


@pytest.mark.parametrize(
    ("precision", "difference", "rounding", "same"),
    [
        ("fp32", 4.9e-5, 0.0, True),
        ("fp32", -5.1e-5, 0.0, False),
        ("bf16", 0.9e-3, 0.0, True),
        ("bf16", 1.1e-3, 0.0, False),
        ("bf16", 2.9e-2, 1e-2, True),
        ("bf16", 3.1e-2, 1e-2, False),
        ("int4", 1e-3, 0.0, True),
    ],
)
def test_losses_may_differ_by_what_rounding_explains(precision, difference, rounding, same):
    assert same_training(precision, difference, rounding) == same
    assert (ROUNDING["fp32"], ROUNDING["bf16"], CARRIED) == (5e-5, 1e-3, 3.0)


# An accelerator against a CPU


def test_a_lead_is_over_the_fastest_mode_of_the_reference_cpu_at_each_batch_size():
    cpu = steps({(64, *PLAIN): 10.0, (64, *COMPILED): 5.0, (512, *PLAIN): 40.0})
    gpu = steps({(64, *PLAIN): 0.5, (64, "cudagraph", "fp32"): 0.25, (512, *PLAIN): 0.1, (4096, *PLAIN): 0.1}, "cuda")
    [lead] = leads(Speedups.of([run(*cpu, *gpu)]))
    assert [row.batch_size for row in lead.sizes] == [64, 512]
    assert {factor: [row.batch_size for row in rows] for factor, rows in lead.reached.items()} == {
        10: [64, 512],
        100: [512],
    }
    assert (lead.best.batch_size, lead.base.mode, lead.most.point) == (512, PLAIN, pytest.approx(400))


def test_there_is_no_lead_without_a_cpu_an_accelerator_or_a_common_batch_size():
    both = {(64, *PLAIN): 1.0, (64, *COMPILED): 0.5}
    for some in (
        steps(both),
        steps(both, "cuda"),
        [*steps(both), *steps({(512, *PLAIN): 1.0, (512, *COMPILED): 1.0}, "cuda")],
    ):
        assert leads(Speedups.of([run(*some)])) == []


def test_the_reference_cpu_is_the_one_that_was_asked_for_and_another_training_has_no_lead():
    times = {(64, *PLAIN): 1.0, (64, *COMPILED): 1.0}
    runs = [
        run(*steps({key: value * 8 for key, value in times.items()})),
        run(*steps(times)),
        run(*steps({(64, *PLAIN): 0.5}, "cuda")),
    ]
    assert [lead.most.point for lead in leads(Speedups.of(runs, "B:cpu"))] == [pytest.approx(2.0)]
    assert [lead.most.point for lead in leads(Speedups.of(runs))] == [pytest.approx(16.0)]
    [lead] = leads(Speedups.of([*runs[:2], run(*steps({(64, *PLAIN): 0.5, (64, *COMPILED): 0.25}, "cuda"))], "C:cuda"))
    assert lead.most.point == pytest.approx(32.0)  # the reference is no CPU, so the first one is taken


def bests(cpu, cuda, cpu_losses=None, **info):
    losses = {} if cpu_losses is None else {"step_losses": cpu_losses}
    runs = [run(*steps(cpu, **losses)), run(*steps(cuda, "cuda", **info))]
    return [
        (one.row.batch_size, one.base.batch_size, pytest.approx(one.gain.point))
        for one in best_against_best(Speedups.of(runs))
    ]


def test_best_against_best_compares_samples_per_second_of_any_batch_and_mode():
    one, two = {(64, *PLAIN): 1.0}, {(64, *PLAIN): 1.0, (512, *COMPILED): 1.0}
    assert bests(one, one) == []  # the speedup says the same
    assert bests(one, two) == [(512, 64, 8.0)]
    assert bests(two, one) == [(64, 512, 1 / 8)]
    assert bests(two, {}) == bests({}, two) == []
    modes, unknown = {(64, *PLAIN): 1.0, (64, *COMPILED): 2.0}, {"samples_per_iteration": None, "samples_per_s": 1.0}
    assert bests(modes, {(512, *PLAIN): 1.0}, **unknown) == [(512, 64, 8.0)]  # a step takes a batch
    assert bests(one, two, cpu_losses={"1": 9.9}) == []  # another training


def test_best_against_best_takes_the_first_of_several_cpus_and_each_network_alone():
    two = {(64, *PLAIN): 1.0, (512, *PLAIN): 1.0}
    runs = [
        run(*steps(two)),
        run(*steps({(64, *PLAIN): 0.1})),
        run(*steps(two, "cuda"), *steps(two, "cuda", model="other")),
    ]
    [found] = best_against_best(Speedups.of(runs))
    assert (found.base.label, found.row.model) == ("A:cpu", "simple_nn")


def test_a_factor_is_reached_only_for_certain():
    cpu, gpu = {(64, *PLAIN): 1.0, (64, *COMPILED): 1.0}, {(64, *PLAIN): 1 / 10.05}
    [lead] = leads(Speedups.of([run(*steps(cpu), *steps(gpu, "cuda"))]))
    assert lead.most.point > 10 and lead.reached == {10: [], 100: []}
    [lead] = leads(Speedups.of([run(*steps(cpu, samples=(1.0,)), *steps(gpu, "cuda", samples=(0.1,)))]))
    assert lead.reached == {10: [], 100: []}
