"""Runs in, rows out: what bounds each, and what it is compared with."""

from dataclasses import replace

import pytest

from perf.harness.report import UnknownReference, render
from perf.harness.verdict.bottleneck import Bottleneck, device_bottleneck, epoch_bottleneck, host_bottleneck
from perf.harness.verdict.fastest import leads
from perf.harness.verdict.speedups import Speedups, letters
from tests.report_runs import benchmark, foreign, run, steps

# What takes most of its time


def test_a_call_waits_for_the_host_from_nine_tenths_of_enqueueing_on():
    assert device_bottleneck(1.8, 2.0) == Bottleneck("launch")
    assert device_bottleneck(1.78, 2.0) == Bottleneck("device")
    assert device_bottleneck(4.0, 2.0) == Bottleneck("launch")


def test_a_host_that_was_slower_in_the_rounds_than_afterwards_is_no_busy_device():
    assert device_bottleneck(0.74e-3, 0.98e-3) == Bottleneck("device")
    assert device_bottleneck(0.74e-3, 0.98e-3, done_s=0.76e-3) == Bottleneck("launch")
    assert device_bottleneck(0.74e-3, 0.76e-3, done_s=1.5e-3) == Bottleneck("launch")  # the host runs ahead of it
    assert device_bottleneck(0.1e-3, 0.98e-3, done_s=0.99e-3) == Bottleneck("device")


def test_a_call_on_the_cpu_spends_its_time_on_the_larger_half():
    assert host_bottleneck(1.42, 2.0) == Bottleneck("overhead", 0.71)
    assert host_bottleneck(1.0, 2.0) == Bottleneck("overhead", 0.5)
    assert host_bottleneck(0.3, 2.0) == Bottleneck("compute", 0.85)
    assert host_bottleneck(2.6, 2.0) == Bottleneck("overhead", 1.0)


def test_an_epoch_waits_for_input_or_trains():
    assert epoch_bottleneck(9.3, 10.0) == Bottleneck("input", 0.93)
    assert epoch_bottleneck(1.5, 10.0) == Bottleneck("step", 0.85)


@pytest.mark.parametrize(
    ("kind", "device", "info", "found"),
    [
        ("training_step", "cpu", {"overhead_s": 1.5, "enqueue_s": 0.1}, Bottleneck("overhead", 0.75)),
        ("training_step", "cpu", {"overhead_s": 0}, Bottleneck("compute", 1.0)),
        ("training_step", "cpu", {"overhead_s": 0, "marks": "UNSTEADY"}, Bottleneck("compute", 1.0)),
        ("training_step", "cpu", {"overhead_s": 0, "marks": "CROWDED UNSTEADY"}, None),
        ("training_step", "cuda", {"enqueue_s": 1.9, "marks": "CROWDED"}, Bottleneck("launch")),
        ("inference", "cpu", {"overhead_s": 0.5}, Bottleneck("compute", 0.75)),
        ("training_step", "cuda", {"enqueue_s": 1.9, "overhead_s": 0.1}, Bottleneck("launch")),
        ("inference", "cuda:1", {"enqueue_s": 0.2}, Bottleneck("device")),
        ("inference", "cuda:1", {"enqueue_s": 0.2, "done_s": 0.21}, Bottleneck("launch")),
        ("epoch", "cuda", {"phases_s": {"data_wait": 6, "copy": 2}, "phases_wall_s": 10}, Bottleneck("input", 0.8)),
        ("epoch", "cpu", {"phases_s": {"data_wait": 0.0, "copy": 0.0}, "phases_wall_s": 0.5}, Bottleneck("step", 1.0)),
    ],
)  # fmt: skip
def test_a_row_knows_its_bottleneck_from_what_was_measured_beside_it(kind, device, info, found):
    [row] = Speedups.of([run(benchmark(kind, device, seconds=2.0, **info))]).rows
    assert row.bottleneck == found


@pytest.mark.parametrize(
    ("kind", "device", "info"),
    [
        ("training_step", "cpu", {}),
        ("training_step", "cpu", {"overhead_s": "x"}),
        ("training_step", "cpu", {"enqueue_s": 1.0}),
        ("inference", "cuda:1", {"overhead_s": 1.0}),
        ("epoch", "cpu", {"phases_s": {"data_wait": 1.0}, "phases_wall_s": 1.0}),
        ("epoch", "cpu", {"phases_s": {"copy": 1.0}, "phases_wall_s": 1.0}),
        ("epoch", "cpu", {"phases_s": {"data_wait": 1.0, "copy": 0.0}}),
        ("epoch", "cpu", {"phases_s": {"data_wait": 1.0, "copy": 0.0}, "phases_wall_s": 0.0}),
        ("epoch", "cpu", {"phases_s": {"data_wait": 1.0, "copy": 0.0}, "phases_wall_s": -1.0}),
        ("epoch", "cpu", {"phases_s": {"data_wait": -1.0, "copy": 0.0}, "phases_wall_s": 1.0}),
        ("training_step", None, {"overhead_s": 1.0}),
        ("epoch", "cpu", {"phases_s": {"data_wait": 1e308, "copy": 1e308}, "phases_wall_s": 1.0}),
        ("input_pipeline", "cpu", {"overhead_s": 1.0}),
    ],
)
def test_what_was_not_measured_is_not_classified(kind, device, info):
    [row] = Speedups.of([run(benchmark(kind, device, **info))]).rows
    assert row.bottleneck is None


# What a row knows


def row_of(samples=(1.0,), **info):
    [row] = Speedups.of([run(benchmark("training_step", samples=samples, **info))]).rows
    return row


@pytest.mark.parametrize(
    ("samples", "info", "unsteady"),
    [
        ((0.75, 0.75, 1.0, 1.25, 1.25), {}, False),
        ((0.74, 0.74, 1.0, 1.26, 1.26), {}, True),
        ((1.0,), {}, False),
        ((1.0, 1.0), {"crowding": 0.25}, False),
        ((1.0, 1.0), {"crowding": 0.26}, True),
    ],
)
def test_a_row_is_unsteady_above_a_spread_or_a_load_of_a_quarter(samples, info, unsteady):
    assert row_of(samples, **info).unsteady == unsteady


@pytest.mark.parametrize(("rounds", "share"), [(None, None), (0, 0.0), (1, 0.25), (4, 1.0), (5, 1.0)])
def test_a_row_knows_in_which_share_of_its_rounds_the_device_had_slowed_down(rounds, share):
    assert row_of((1.0,) * 4, throttled_rounds=rounds).throttled == share
    assert row_of((1.0,), throttled_rounds=rounds).throttled == (None if rounds is None else float(rounds > 0))


def test_a_row_knows_its_rate_in_the_trainings_own_unit():
    known = {"seconds": 2.0, "samples_per_iteration": 64}
    assert row_of(**known, units_per_sample=128).units_per_s == 64 * 128 / 2
    assert row_of(**known).units_per_s is row_of(samples_per_iteration=None, units_per_sample=128).units_per_s is None


@pytest.mark.parametrize(
    ("measured", "planned", "few"),
    [(1, 5, 1), (2, 5, 2), (3, 5, None), (1, 3, 1), (2, 3, 2), (1, 2, 1), (2, 2, None), (1, 1, None), (1, None, None)],
)
def test_a_row_knows_that_one_or_two_of_more_passes_measured_it(measured, planned, few):
    rounds = {str(number): 2 for number in range(measured)}
    made = benchmark("training_step", samples=(1.0,) * 2 * measured, pass_rounds=rounds)
    [row] = Speedups.of([run(made, passes=planned)]).rows
    assert row.few_passes == few


@pytest.mark.parametrize(
    ("info", "rate"),
    [
        ({"samples_per_iteration": 64, "samples_per_s": 7.0}, 32.0),
        ({"samples_per_iteration": None, "samples_per_s": 7.0}, 7.0),
        ({"samples_per_iteration": None, "samples_per_s": 0.5}, 0.5),
        ({"samples_per_iteration": None, "samples_per_s": 0.0}, None),
        ({"samples_per_iteration": None, "samples_per_s": -1.0}, None),
        ({"samples_per_iteration": None}, None),
        ({"samples_per_iteration": 1e308, "seconds": 1e-9}, None),
    ],
)
def test_a_rate_is_a_number_above_0_or_unknown(info, rate):
    row = row_of(**{"seconds": 2.0, "flop_per_sample": 10.0} | info)
    assert row.samples_per_s == rate and row.flop_per_s == (None if rate is None else 10 * rate)
    assert row_of().flop_per_s is None and row_of(flop_per_sample=0).flop_per_s is None


def test_the_energy_of_a_sample_is_known_from_two_seconds_on():
    energy = {"energy_j": 640.0, "energy_calls": 100, "energy_s": 2.0, "samples_per_iteration": 64}
    assert row_of(**energy).j_per_sample == pytest.approx(0.1)
    assert row_of(**energy | {"energy_s": 1.9}).j_per_sample is None
    for missing in energy:
        assert row_of(**energy | {missing: None}).j_per_sample is None


def test_a_row_knows_what_it_reaches_of_the_devices_matrix_products():
    known = {"seconds": 2.0, "samples_per_iteration": 64, "flop_per_sample": 1e9, "matmul_flop_per_s": 64e9}
    assert row_of(**known).share_of_matmul == pytest.approx(0.5)
    for missing in ("flop_per_sample", "matmul_flop_per_s"):
        assert row_of(**known | {missing: None}).share_of_matmul is None
    assert row_of(**known | {"matmul_flop_per_s": 0}).share_of_matmul is None
    assert row_of(**known | {"matmul_flop_per_s": 30e9}).share_of_matmul == pytest.approx(32 / 30)
    assert row_of(**known | {"matmul_flop_per_s": 28e9}).share_of_matmul is None  # no step is faster than its products
    assert row_of(**known | {"crowding": 0.2}).share_of_matmul == pytest.approx(0.5)
    assert row_of(**known | {"crowding": 0.3}).share_of_matmul is None  # CROWDED


def test_a_strangers_file_gives_a_median_and_a_spread_only_if_it_has_quartiles():
    def found(**stats):
        [row] = Speedups.of([run(foreign(median=2.0, **stats))]).foreign
        assert not row.reference
        return row.summary.median, row.summary.spread, row.summary.rounds

    quartiles = {"q1": 1.5, "q3": 2.5}
    assert found(rounds=2, **quartiles) == (2.0, 0.25, 2)
    assert found(rounds=1, **quartiles) == found(**quartiles) == (2.0, None, 1)
    assert found(rounds=5, q1=1.5) == found(rounds=5, q3=1.5) == found(rounds=5, q1=2.5, q3=1.5) == (2.0, None, 5)
    assert found(rounds=5, q1=2.0, q3=2.0) == (2.0, 0.0, 5)


# Another training on another device

LOSSES = {"1": 2.3, "5": 2.0, "50": 1.5}


def compared(losses, rounding=None, cpu=LOSSES, seeds=(0, 0), **options):
    """What of a GPU with these first `losses` has a speedup over a CPU, and the report."""
    runs = [
        run(
            benchmark("training_step", device, step_losses=found, step_losses_rounding=rounding or {}),
            benchmark("epoch", device, pipeline="resident", execution="cudagraph"),
            benchmark("epoch", device, pipeline="resident"),
            benchmark("inference", device, model="other"),
            settings={"seed": seed},
        )
        for device, found, seed in (("cpu", cpu, seeds[0]), ("cuda", losses, seeds[1]))
    ]
    rows = Speedups.of(runs, **options)
    theirs = [row for row in rows.rows if not row.reference]
    shown = {row.kind for row in theirs if row.speedup is not None or row.full_speedup is not None}
    return shown, " ".join(render(runs, **options).split())


ALL, REFUSED = {"training_step", "epoch", "inference"}, {"inference"}


@pytest.mark.parametrize(
    ("losses", "rounding", "shown"),
    [
        (LOSSES, None, ALL),
        ({**LOSSES, "50": 1.5 * (1 + 0.9e-4)}, None, ALL),
        ({**LOSSES, "50": 1.5 * (1 + 1.1e-4)}, None, REFUSED),
        ({**LOSSES, "50": 1.51}, {"50": 3e-3}, ALL),  # rounding is multiplied: by three times as much, it may be
        ({**LOSSES, "50": 1.51}, {"50": 2e-3}, REFUSED),
        ({**LOSSES, "50": 1.51}, {"5": 1.0}, REFUSED),
        ({"1": 2.3}, None, ALL),  # the steps that both have
        ({"2": 7.0}, None, ALL),
        ({}, None, ALL),
        ({"1": float("nan")}, None, ALL),  # no number: not known
    ],
)
def test_a_device_that_trains_otherwise_has_no_speedup(losses, rounding, shown):
    assert compared(losses, rounding)[0] == shown


def test_the_losses_are_said_with_the_step_and_the_batch():
    assert (
        "No speedup of B:cuda over A:cpu for training step, epoch: B:cuda does not train as A:cpu does: the loss of "
        "step 5 at batch 64 is 2.1, not 2: 0.05 of it apart, at most 0.0001 is rounding."
    ) in compared({**LOSSES, "5": 2.1})[1]
    other = compared({**LOSSES, "5": 2.1}, reference="cuda")
    assert other[0] == REFUSED
    assert "A:cpu does not train as B:cuda does: the loss of step 5 at batch 64 is 2, not 2.1" in other[1]


def test_a_loss_near_zero_has_the_rounding_of_what_it_is_a_difference_of():
    cpu = {"1": 2.3, "50": 0.0003}
    assert compared({**cpu, "50": 0.000301}, cpu=cpu)[0] == ALL
    shown, report = compared({**cpu, "50": 0.0004}, cpu=cpu)
    assert shown == REFUSED
    assert "step 50 at batch 64 is 0.0004, not 0.0003: 0.00435 of 1% of the first loss apart, at most" in report


@pytest.mark.parametrize(
    ("cpu", "cuda", "says"),
    [
        ({"loss_first": 2.3}, {"loss_first": 9.9}, "the first loss at batch 64 is 9.9, not 2.3"),
        (
            {"accuracy": 0.94},
            {"accuracy": 0.1, "execution": "cudagraph"},
            "the accuracy at batch 64 is 10.0%, not 94.0%",
        ),
        ({"loss_first": 2.3, "accuracy": 0.94}, {"loss_first": 2.35, "accuracy": 0.93}, ""),
    ],
)
def test_without_a_training_step_the_ends_of_a_training_show_that_it_is_another(cpu, cuda, says):
    kind = "training_run" if "accuracy" in cpu else "epoch"
    runs = [
        run(benchmark(kind, device, pipeline="resident", **info)) for device, info in (("cpu", cpu), ("cuda", cuda))
    ]
    found = Speedups.of(runs)
    (row,) = [row for row in found.rows if not row.reference]
    report = " ".join(render(runs).split())
    assert (row.speedup is None and row.full_speedup is None) == bool(says)
    assert says in report
    unknown = (
        "Whether simple_nn trains on B:cuda as on A:cpu was not compared: the training step in eager fp32 shows it"
    )
    assert (unknown in report) == (not says)


def test_a_training_that_draws_on_the_device_is_said_not_to_be_compared():
    shown, report = compared({}, cpu={})
    assert shown == ALL
    assert "Whether simple_nn trains on B:cuda as on A:cpu was not compared: it draws random numbers on the" in report
    assert "was not compared" not in compared(LOSSES)[1]


def test_losses_of_another_seed_say_nothing():
    assert compared({**LOSSES, "5": 2.1}, seeds=(0, 1))[0] == ALL


def test_the_lead_of_an_accelerator_that_trains_otherwise_is_not_said():
    times = {(64, "eager", "fp32"): 1.0, (64, "compile", "fp32"): 0.5}

    def said(losses):
        runs = [
            run(*steps(times, "cpu", step_losses=LOSSES)),
            run(*steps({key: value / 100 for key, value in times.items()}, "cuda", step_losses=losses)),
        ]
        return bool(leads(Speedups.of(runs)))

    assert said(LOSSES)
    assert not said({**LOSSES, "5": 2.1})


# Comparing


def speedups(*runs, reference=None):
    return {
        (row.label, row.kind, row.batch_size, row.pipeline): row.speedup and round(row.speedup.point, 3)
        for row in Speedups.of(runs, reference).rows
    }


def test_a_speedup_is_over_the_same_work_on_the_reference():
    both = run(
        benchmark("training_step", "cuda", 64, seconds=1.0),
        benchmark("training_step", "cpu", 64, seconds=3.0),
        benchmark("training_step", "cuda", 512, seconds=1.0),
        benchmark("inference", "cuda", 64, seconds=0.5),
    )
    assert speedups(both) == {
        ("cpu", "training_step", 64, None): None,
        ("cuda", "training_step", 64, None): 3.0,
        ("cuda", "training_step", 512, None): None,
        ("cuda", "inference", 64, None): None,
    }
    assert speedups(both, reference="cuda")["cpu", "training_step", 64, None] == 0.333


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("data", "digits", "different data set (digits, mnist)"),
        ("model", "resnet18", "different model (resnet18, simple_nn)"),
        ("precision", "bf16", "different precision (bf16, fp32)"),
        ("profile", "smoke", "different profile (smoke, standard)"),
        ("batch_size", 65, "A:cpu did not measure it with the same batch size and pipeline"),
        ("pipeline", "workers", "A:cpu did not measure it with the same batch size and pipeline"),
    ],
)
def test_different_work_is_not_compared_and_the_report_says_why(key, value, reason):
    one = run(benchmark("epoch", "cpu"))
    other = run(benchmark("epoch", "cuda", **{key: value}), source="gpu.json")
    assert set(speedups(one, other).values()) == {None}
    text = " ".join(render([one, other]).split())
    assert f"No speedup of B:cuda over A:cpu for epoch: {reason}." in text
    assert "speedup vs" not in text


def test_data_of_the_same_name_and_another_digest_is_other_data():
    one = run(benchmark("epoch", "cpu"), data={"name": "mnist", "digest": "a"})
    other = run(benchmark("epoch", "cuda"), data={"name": "mnist", "digest": "b"}, source="gpu.json")
    assert "for epoch: different data of the same name." in " ".join(render([one, other]).split())


def test_a_profile_that_takes_a_part_of_the_data_has_no_other_data():
    one = run(benchmark("epoch", "cpu", profile="standard"), data={"name": "mnist", "digest": "a"})
    other = run(benchmark("epoch", "cuda", profile="smoke"), data={"name": "mnist", "digest": "b"}, source="gpu.json")
    assert "for epoch: different profile (smoke, standard)." in " ".join(render([one, other]).split())


def test_where_two_rows_of_the_reference_fit_neither_is_taken():
    twice = run(benchmark("mine", "cpu"), benchmark("mine", "cpu", seconds=9.0), benchmark("mine", "cuda"))
    assert set(speedups(twice).values()) == {None}
    assert "several benchmarks of cpu fit" in render([twice])


def test_of_two_rows_of_the_reference_the_one_timed_alike_is_taken():
    latency, throughput = (
        benchmark("mine", "cpu", timing=t, seconds=s) for t, s in (("latency", 4), ("throughput", 2))
    )
    found = Speedups.of([run(latency, throughput, benchmark("mine", "cuda", timing="throughput"))]).rows[-1]
    assert found.label == "cuda" and found.speedup.point == pytest.approx(2.0)


def test_the_only_row_of_the_reference_is_taken_however_it_was_timed():
    found = Speedups.of([run(benchmark("mine", "cpu", timing="latency"), benchmark("mine", "cuda", timing="x"))]).rows
    assert found[-1].label == "cuda" and found[-1].speedup is not None


def test_a_pipeline_is_compared_with_the_plain_one_on_its_own_device():
    rows = Speedups.of(
        [run(*(benchmark("epoch", d, pipeline=p, seconds=s) for d, p, s in (
            ("cpu", "dataloader", 8), ("cpu", "resident", 2), ("cuda", "dataloader", 6), ("cuda", "resident", 1))))],
        None,
    ).rows  # fmt: skip
    assert {(r.label, r.pipeline): r.pipeline_speedup and r.pipeline_speedup.point for r in rows} == {
        ("cpu", "dataloader"): None,
        ("cuda", "dataloader"): None,
        ("cpu", "resident"): pytest.approx(4.0),
        ("cuda", "resident"): pytest.approx(6.0),
    }


def test_rows_are_sorted_by_batch_pipeline_and_with_the_reference_first():
    rows = Speedups.of(
        [run(*(benchmark("epoch", d, b, p) for d in ("cuda", "cpu") for b in (512, 64)
               for p in ("resident", "workers", "dataloader")))],
        None,
    ).rows  # fmt: skip
    assert [(r.batch_size, r.pipeline, r.label) for r in rows] == [
        (b, p, d) for b in (64, 512) for p in ("dataloader", "workers", "resident") for d in ("cpu", "cuda")
    ]


def test_a_row_without_a_batch_size_comes_first():
    rows = Speedups.of([run(*(benchmark("mine", batch=batch) for batch in (1, None, 2)))]).rows
    assert [row.batch_size for row in rows] == [None, 1, 2]


def test_the_reference_is_the_first_cpu_or_the_one_asked_for():
    one, two = run(benchmark("epoch", "cuda")), run(benchmark("epoch", "cuda"), benchmark("epoch", "cpu"))
    assert Speedups.of([one]).reference == "cuda"
    assert Speedups.of([one, two]).reference == "B:cpu"
    assert Speedups.of([one, two], "cuda").reference == "A:cuda"
    assert Speedups.of([one, two], "B:cuda").reference == "B:cuda"
    assert Speedups.of([run(foreign())]).reference is None


def test_a_reference_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(
        UnknownReference, match="--reference=tpu: no such device in these files; they have: A:cpu, B:cuda"
    ):
        render([run(benchmark("epoch")), run(benchmark("epoch", "cuda"))], reference="tpu")
    with pytest.raises(UnknownReference, match="they have no benchmark of Stepwatch"):
        render([run(foreign())], reference="cpu")


def test_files_are_named_like_the_columns_of_a_spreadsheet():
    assert letters(1) == [""]
    assert letters(28)[:2] + letters(28)[-3:] == ["A", "B", "Z", "AA", "AB"]
    assert letters(703)[-1] == "AAA"


def test_two_files_of_one_machine_keep_their_rows_apart_and_say_that_it_is_one():
    before = run(benchmark("training_step"), fingerprint_id="f", host_name="box")
    after = run(benchmark("training_step", seconds=2.0), fingerprint_id="f", host_name="box", source="after.json")
    text = render([before, after])
    assert "B  after.json (same machine and settings as A)\n\nTraining step" in text
    assert "A:cpu" in text and "B:cpu" in text
    assert "B:cpu is slower than A:cpu at batch 64, by 2.00×" in text


def test_rows_that_look_alike_show_their_names():
    text = render([run(benchmark("mine"), replace(benchmark("mine"), name="test_other"))])
    assert "\ntest_mine[cpu-bs64]     64" in text and "\ntest_other              64" in text


def test_what_differs_between_rows_gets_a_column_and_what_does_not_gets_none():
    text = render([run(benchmark("epoch", precision="bf16"), benchmark("epoch"), benchmark("epoch", model="resnet18"))])
    assert "model      precision  batch  device " in text
    assert "data set" not in text and "profile" not in text
