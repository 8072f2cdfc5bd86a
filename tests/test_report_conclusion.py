"""Runs in, sentences out: which device wins, what holds an epoch up, what became of the cases, what not to trust."""

import csv
import json
from dataclasses import replace

import pytest

from perf.harness.record import Case
from perf.harness.report import commands, render
from tests.report_runs import CPU_RUN, STEADY, benchmark, run


def duel(*pairs, samples=STEADY):
    """The sentence about a GPU that takes the second time where the CPU takes the first, at batch 1, 2, 3, …"""
    rows = []
    for batch, (cpu_s, gpu_s) in enumerate(pairs, start=1):
        rows += [
            benchmark("training_step", d, batch, seconds=s, samples=samples)
            for d, s in (("cpu", cpu_s), ("cuda", gpu_s))
        ]
    text = render([run(*rows)], width=1000)
    [sentence] = [line for line in text.splitlines() if line.startswith("Training step: ")]
    return sentence.removeprefix("Training step: ")


def test_the_device_that_wins_is_named_from_the_batch_size_on_where_it_does():
    assert duel((2, 1), (8, 2)) == "cuda is faster than cpu at every batch size measured, by 2.00× to 4.00×."
    assert duel((1, 1), (2, 1), (8, 2)) == (
        "cuda is faster than cpu from batch 2 on, by 2.00× to 4.00×; at batch 1, the two show no certain difference."
    )
    assert duel((1, 2), (1, 3), (3, 1)) == (
        "cuda is faster than cpu at batch 3, by 3.00×; slower up to batch 2, by 2.00× to 3.00×."
    )
    assert duel((2, 1), (1, 2), (2, 1)) == (
        "cuda is faster than cpu at batch 1 and 3, by 2.00×; slower at batch 2, by 2.00×."
    )


def test_the_device_that_loses_or_ties_is_not_said_to_win():
    assert duel((1, 2), (1, 2)) == "cuda is slower than cpu at every batch size measured, by 2.00×."
    assert duel((1, 1), (1, 1)) == "at every batch size measured, cuda and cpu show no certain difference."
    assert duel((9, 1), samples=(1.0,)) == "at batch 1, there are too few rounds to compare cuda with cpu."


def test_the_whole_training_run_gets_its_sentence():
    text = render([run(*(benchmark("training_run", d, seconds=s, epochs=5) for d, s in (("cpu", 4), ("cuda", 2))))])
    assert "Training run (5 epochs): cuda is faster than cpu at batch 64, by 2.00×." in text


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        (
            {64: (1.0, 1.2), 512: (1.8, 1.0), 4096: (1.9, 1.0)},
            "With 2 threads, the training step is faster than with one from batch 512 on (1.80× to 1.90×), and not at "
            "batch 64 (0.833×): --perf-threads=auto chooses for all of them.",
        ),
        (
            {64: (1.0, 1.0), 512: (1.0, 1.0)},
            "With 2 threads, the training step is no faster than with one at every batch size measured (1.00×): "
            "--perf-threads=1 is as fast, and steadier.",
        ),
        (
            {64: (1.0, 4.0), 512: (1.0, 125.0)},
            "With 2 threads, the training step takes 4.00× to 125× as long as with one at every batch size measured: "
            "--perf-threads=1 is much faster.",
        ),
        ({64: (2.0, 1.0)}, "With 2 threads, the training step is faster than with one at batch 64 (2.00×)."),
    ],
)
def test_from_which_batch_size_on_threads_are_worth_it(times, sentence):
    steps = [
        benchmark("training_step", batch=batch, seconds=every, one_thread_s=one, all_threads_s=every)
        for batch, (one, every) in times.items()
    ]
    one = run(*steps, environment={"threads": 2})
    assert sentence in render([one], width=1000).splitlines()
    several = render([one, one], width=1000).splitlines()
    assert f"A: {sentence}" in several and f"B: {sentence}" in several


@pytest.mark.parametrize(("waits", "said"), [((0.9, 0.8), True), ((0.9, 0.2), False), ((0.2, 0.8), False)])
def test_where_both_devices_wait_for_input_a_faster_one_is_said_to_gain_little(waits, said):
    rows = [
        row
        for device, share, seconds in (("cpu", waits[0], 1.0), ("cuda", waits[1], 0.5))
        for row in (
            benchmark("training_step", device, seconds=seconds),
            benchmark("epoch", device, pipeline="dataloader", seconds=seconds,
                      phases_s={"data_wait": share, "copy": 0.0, "forward": 1 - share}, phases_wall_s=1.0),
        )
    ]  # fmt: skip
    text = render([run(*rows)], width=1000)
    sentence = (
        "In an epoch of simple_nn with dataloader, cpu and cuda wait for input most of the time: there, a faster "
        "device gains little until the pipeline is faster.\n"
    )
    assert (sentence in text) == said
    assert "cuda is faster than cpu at batch 64, by 2.00×" in text


@pytest.mark.parametrize(
    ("kinds", "sentence"),
    [
        ({"training_step"}, "On this CPU the training step reaches 80,000 samples/s at batch 64."),
        (
            {"epoch"},
            "On this CPU an epoch with dataloader waits for input 85% of its time: resident makes it 10.0× faster.",
        ),
        (
            {"input_pipeline", "epoch"},
            "On this CPU an epoch with dataloader waits for input 85% of its time: resident makes",
        ),
        ({"input_pipeline"}, None),
        ({"training_run"}, None),
    ],
)
def test_a_sentence_says_less_where_something_was_not_measured(kinds, sentence):
    some = replace(
        CPU_RUN,
        benchmarks=tuple(
            b for b in CPU_RUN.benchmarks if b.text("benchmark") in kinds and b.number("batch_size") == 64
        ),
    )
    text = render([some], width=1000)
    assert (sentence in text) if sentence else ("On this CPU" not in text)


def test_an_epoch_that_is_bound_by_its_steps_is_said_to_be():
    phases = {"phases_s": {"data_wait": 1.0, "copy": 0.5}, "phases_wall_s": 10.0}
    text = render([run(benchmark("epoch", pipeline="dataloader", **phases))])
    assert "On this CPU an epoch with dataloader spends 85% of its time in training steps." in text


def test_a_pipeline_that_cannot_be_told_from_the_plain_one_is_not_said_to_help():
    phases = {"phases_s": {"data_wait": 9.0, "copy": 0.0}, "phases_wall_s": 10.0}
    noisy = (0.5, 1.0, 2.0)
    rows = [
        benchmark("epoch", pipeline=p, seconds=s, samples=noisy, **phases)
        for p, s in (("dataloader", 2), ("workers", 1))
    ]
    assert "On this CPU an epoch with dataloader waits for input 90% of its time.\n" in render([run(*rows)])


def test_a_pipeline_that_keeps_up_with_the_step_is_not_given_as_the_cause():
    phases = {"phases_s": {"data_wait": 9.0, "copy": 0.0}, "phases_wall_s": 10.0}
    step, pipe = (
        benchmark("training_step", seconds=2.0),
        benchmark("input_pipeline", pipeline="dataloader", seconds=1.0),
    )
    text = render([run(step, pipe, benchmark("epoch", pipeline="dataloader", **phases))], width=200)
    assert "reaches 32.0 samples/s at batch 64; an epoch with dataloader waits for input 90% of its time.\n" in text


def test_passes_that_differ_too_much_are_named():
    made = benchmark("training_step", samples=(1.0, 1.0, 1.5, 1.5, 2.0), pass_rounds={"1": 2, "2": 2, "3": 1})
    assert "Do not trust these times: the passes differ by more than 25%." in render([run(made)], width=200)


def test_beside_cases_of_several_passes_one_of_a_single_pass_says_what_differs_there():
    several = benchmark("training_step", samples=(1.0, 1.0, 1.5, 1.5, 2.0), pass_rounds={"1": 2, "2": 2, "3": 1})
    single = benchmark("inference", samples=(0.5, 1.0, 2.0), pass_rounds={"1": 3})
    text = render([run(several, single)], width=200)
    assert "training step at batch 64. Do not trust these times: the passes differ by more than 25%." in text
    assert "inference at batch 64. Do not trust these times: the rounds differ by more than 25%." in text


def test_times_that_scatter_too_much_are_named_and_nothing_is_concluded_from_them():
    rows = [benchmark("training_step", batch=b, samples=s) for b, s in ((64, (0.5, 1.0, 2.0)), (512, STEADY))]
    text = render([run(*rows)], width=200)
    assert "1.00 s ±38%  UNSTEADY" in text
    assert (
        "UNSTEADY on cpu: training step at batch 64. Do not trust these times: the rounds differ by more than 25%. "
        in text
    )
    assert "reaches 512 samples/s at batch 512." in text
    assert "UNSTEADY" not in render([CPU_RUN])


def test_threads_beside_other_programs_are_said_to_be_so():
    step = benchmark("training_step", seconds=125.0, crowding=0.5, one_thread_s=1.0, all_threads_s=125.0)
    said = "With 2 threads, the training step takes, beside other programs, 125× as long as with one at batch 64: "
    assert said in render([run(step, environment={"threads": 2})], width=1000)


@pytest.mark.parametrize(("crowding", "marked"), [(0.3, True), (0.2, False), (None, False)])
def test_times_from_crowded_cores_are_marked_however_close_together(crowding, marked):
    row = benchmark("training_step", samples=STEADY, crowding=crowding, others_cores=1.4)
    text = render([run(row)], width=200)
    assert ("CROWDED on cpu: training step at batch 64 (others: 1.4 cores). Do not trust" in text) == marked
    assert ("%  CROWDED  " in text) == marked
    assert "UNSTEADY" not in text


@pytest.mark.parametrize(
    ("others", "cores", "threads", "advice"),
    [(0.9, 4, 4, ", or with --perf-threads=3, as many cores as were free."), (0.9, 4, 3, "."), (1.1, 4, None, "."),
     (1.4, 2, 2, ", or with --perf-threads=1: several threads wait for each other beside other programs."),
     (1.4, 2, 1, ".")],
)  # fmt: skip
def test_who_shares_the_cores_is_told_how_many_threads_have_one(others, cores, threads, advice):
    row = benchmark("training_step", samples=STEADY, crowding=0.5, others_cores=others)
    environment = {"cpu_cores": cores, "threads": threads}
    assert f" Measure again while nothing else runs{advice}\n" in render(
        [run(row, environment=environment)], width=1000
    )


@pytest.mark.parametrize(
    ("others", "withheld", "says"),
    [
        (0.1, 0.9, "(withheld: 0.9 cores). Do not trust these times: the container may use the cores for a part of the "
         "time only. Raise its quota, or measure with fewer threads: --perf-threads=1.\n"),
        (0.9, 0.1, "(others: 0.9 cores). Do not trust these times: other programs used the same cores."),
        (0.9, None, "(others: 0.9 cores). Do not trust these times: other programs used the same cores."),
    ],
)  # fmt: skip
def test_what_a_quota_withheld_is_not_called_other_programs(others, withheld, says):
    row = benchmark("training_step", samples=STEADY, crowding=1.0, others_cores=others, withheld_cores=withheld)
    text = render([run(row, environment={"cpu_cores": 2, "threads": 2, "quota_cores": 1.2})], width=1000)
    assert f"CROWDED on cpu: training step at batch 64 {says}" in text and "%  CROWDED  " in text
    text = render([run(row, environment={"cpu_cores": 2, "threads": 1, "quota_cores": 0.6})], width=1000)
    assert ("Raise its quota.\n" in text) == (says.startswith("(withheld"))


def test_the_worst_of_the_marked_rows_comes_first_and_a_row_has_all_its_marks():
    rows = [
        benchmark("training_step", batch=64, samples=STEADY, crowding=0.5, others_cores=0.6),
        benchmark("training_step", batch=512, samples=(0.5, 1.0, 2.0), crowding=1.5, others_cores=1.7),
    ]
    text = render([run(*rows)], width=200)
    worst_first = "training step at batch 512 (others: 1.7 cores), training step at batch 64 (others: 0.6 cores)."
    assert f"CROWDED on cpu: {worst_first}" in text
    assert "±38%  CROWDED UNSTEADY" in text
    assert list(csv.DictReader(render([run(*rows)], format="csv").splitlines()))[1]["marks"] == "CROWDED UNSTEADY"


def test_of_many_marked_cases_the_worst_are_named_and_the_others_counted():
    rows = [
        benchmark("training_step", batch=64 + size, samples=STEADY, crowding=0.5, others_cores=1.0 + size / 10)
        for size in range(7)
    ]
    text = render([run(*rows)], width=500)
    named = ", ".join(
        f"training step at batch {64 + size} (others: {1 + size / 10:.1f} cores)" for size in (6, 5, 4, 3, 2)
    )
    assert f"CROWDED on cpu: {named}, and 2 more. Do not trust" in text
    assert text.count("CROWDED") == 8


@pytest.mark.parametrize(
    ("pipeline", "forward_s", "device", "more", "said"),
    [
        ("workers", 2.9, "cpu", {}, False),
        ("workers", 6.5, "cpu", {}, True),
        ("workers", 3.2, "cpu", {"phases_batches": 50}, True),
        ("dataloader", 6.5, "cpu", {}, False),  # it has no processes
        ("workers", 6.5, "cuda", {}, False),  # its processes do not use the GPU's cores
        ("workers", 6.5, "cpu", {"crowding": 1.0}, False),  # other programs may be the reason
    ],
)
def test_a_step_that_is_far_slower_inside_an_epoch_is_said(pipeline, forward_s, device, more, said):
    """The epoch has 100 steps; alone, a step takes 10 ms."""
    step = benchmark("training_step", device, seconds=0.01)
    phases = {"data_wait": 1.0, "copy": 0, "forward": forward_s, "backward": 0.05, "optimizer": 0.05, "other": 0}
    epoch = benchmark(
        "epoch", device, 64, pipeline, 8.0, phases_s=phases, phases_wall_s=8.0, samples_per_iteration=6_400, **more
    )
    text = render([run(step, epoch)], width=1000)
    sentence = "Inside the epoch with workers at batch 64 on cpu, a training step takes 6.60× as long as alone: "
    assert (sentence in text) == said and ("Inside" in text) == said
    crowded = benchmark("training_step", device, seconds=0.01, crowding=1.0)  # nobody knows what it takes alone
    assert "Inside" not in render([run(crowded, epoch)], width=1000)


def test_a_factor_of_times_that_are_not_to_be_trusted_says_so():
    phases = {"data_wait": 8.5, "copy": 0, "forward": 1, "backward": 0, "optimizer": 0, "other": 0}
    rows = [
        benchmark("epoch", pipeline="dataloader", samples=(10.0,) * 5, phases_s=phases, phases_wall_s=10),
        benchmark("epoch", pipeline="resident", samples=(1.0,) * 5, crowding=0.5),
    ]
    assert "resident makes it 10.0× faster, by times that are CROWDED." in render([run(*rows)], width=1000)


def test_the_way_to_a_gpu_names_a_file_only_where_a_shell_takes_it():
    for source, command in (
        ("runs/cpu.json", "python -m perf report runs/cpu.json gpu.json"),
        ("this run", "python -m perf report cpu.json gpu.json"),
        ("a; rm -rf.json", "python -m perf report cpu.json gpu.json"),
        ("gpu.json", "python -m perf report cpu.json gpu.json"),
        ("x" * 80 + ".json", "python -m perf report cpu.json gpu.json"),
    ):
        text = render([run(benchmark("epoch"), source=source)])
        assert text.endswith(f"    {command}"), source
        assert ("--benchmark-json=cpu.json   # here" in text) == ("report cpu.json" in command)
    assert "To compare with a GPU" not in render([run(benchmark("epoch"), benchmark("epoch", "cuda"))])


def test_counts_group_the_reasons_and_name_what_failed():
    cases = [
        *(Case(f"m{i}", "measured") for i in range(14)),
        *(Case(f"s{i}", "skipped", "cuda: no driver") for i in range(11)),
        Case("s", "skipped", "workers: no fork"),
        Case("perf/test_x.py::test_x[cuda-bs4096]", "out-of-memory", "CUDA out of memory"),
        *(Case(f"perf/test_x.py::test_{i}", "failed") for i in range(5)),
        Case("n", "not-run"),
        Case("o", "odd"),
    ]
    assert render([run(cases=cases)], width=1000).splitlines()[2] == (
        "measured 14 · skipped 12 (11: cuda: no driver; 1: workers: no fork) · out of memory 1 (test_x[cuda-bs4096])"
        " · not run 1 (n) · failed 5 (test_0; test_1; test_2; and 2 more) · odd 1 (o)"
    )
    why = "cpu: one training run takes about 45.6 s, by the fastest of 3 steps while other programs use 1.0 of its"
    assert f"skipped 1 ({why})" in render([run(cases=[Case("s", "skipped", why)])], width=1000)
    four = [Case(f"s{number}", "skipped", f"reason {number}") for number in range(4)]
    assert "(1: reason 0; 1: reason 1; 1: reason 2; 1: reason 3)" in render([run(cases=four)])


def test_smoke_and_partial_runs_are_labelled():
    smoke = run(
        benchmark(
            "epoch", pipeline="dataloader", profile="smoke", phases_s={"data_wait": 9, "copy": 0}, phases_wall_s=10
        ),
        profile="smoke",
        complete=False,
    )
    text = render([smoke])
    assert text.startswith(
        "Stepwatch\n\nSMOKE: a short run on a part of the data. Do not decide anything by its numbers.\n\n"
        "PARTIAL: the run did not finish.\n"
    )
    assert "\nEpoch – SMOKE\n" in text and "\nSMOKE: On this CPU an epoch" in text
    [row] = json.loads(render([smoke], format="json"))
    assert (row["profile"], row["complete"]) == ("smoke", False)
    mixed = render([CPU_RUN, smoke])
    assert "SMOKE (B): " in mixed and "PARTIAL (B): " in mixed and "\nEpoch – partly SMOKE\n" in mixed


def test_of_training_and_inference_the_deciding_sentence_is_about_training_and_smoke_is_said():
    rows = [
        benchmark(k, d, profile="smoke", seconds=s)
        for k in ("training_step", "inference")
        for d, s in (("cpu", 2), ("cuda", 1))
    ]
    text = render([run(*rows)])
    assert "\nTraining step – SMOKE: cuda is faster than cpu at batch 64, by 2.00×.\n" in text
    assert "Inference – SMOKE:" not in text


def test_a_run_without_benchmarks_says_so():
    assert render([run()]) == "Stepwatch\n\nNothing was measured."
    why = "Nothing was measured: the run ended before it had measured a case."
    early = replace(run(), complete=False)
    assert why in render([early]) and why in render([run(), early])


@pytest.mark.parametrize(
    ("perf", "first", "last", "gate"),
    [
        ({}, "pytest perf/", "python -m perf report", "pytest perf/ --perf-against=main"),
        (
            {"command": "pytest perf/ -k step", "settings": {"model": "resnet18"}},
            "pytest perf/ -k step",
            "python -m perf report",
            "pytest perf/ --perf-against=main",
        ),
        (
            {"command": "pytest ../clone/perf --perf-model=net.py:Net", "settings": {"model": "net.py:Net"}},
            "pytest ../clone/perf --perf-model=net.py:Net",
            "python ../clone/perf report",
            "pytest ../clone/perf --perf-model=net.py:Net --perf-against=main",
        ),
        (
            {"command": 'pytest "$STEPWATCH/perf" --perf-profile=smoke', "settings": None},
            'pytest "$STEPWATCH/perf" --perf-profile=smoke',
            'python "$STEPWATCH/perf" report',
            'pytest "$STEPWATCH/perf" --perf-against=main',
        ),
        (
            {"command": 'pytest "$STEPWATCH/perf"/test_epoch.py'},
            'pytest "$STEPWATCH/perf"/test_epoch.py',
            'python "$STEPWATCH/perf" report',
            'pytest "$STEPWATCH/perf" --perf-against=main',
        ),
        (
            {"command": "pytest '../my clone/perf'"},
            "pytest '../my clone/perf'",
            "python '../my clone/perf' report",
            "pytest '../my clone/perf' --perf-against=main",
        ),
        (
            {"command": "PYTHONPATH=perf pytest ../clone/perf --perf-model=m:Net", "settings": {"model": "m:Net"}},
            "PYTHONPATH=perf pytest ../clone/perf --perf-model=m:Net",
            "python ../clone/perf report",
            "PYTHONPATH=perf pytest ../clone/perf --perf-model=m:Net --perf-against=main",
        ),
        ({"command": "pytest --perf-model=perf.py:Net"}, "pytest --perf-model=perf.py:Net", "python -m perf report",
         "pytest perf/ --perf-against=main"),
    ],
)  # fmt: skip
def test_commands_can_be_typed_where_the_run_was_made(perf, first, last, gate):
    made = replace(run(), perf=perf)
    assert commands.measure(made, "--x") == f"{first} --x"
    assert commands.tool(made, "report", "a.json") == f"{last} a.json"
    assert commands.gate(made, "main") == gate


@pytest.mark.parametrize(
    "odd",
    [
        "pytest perf/; rm x",
        "pytest $(reboot)",
        "rm perf/",
        "pytest 'perf/",
        "pytest perf/\x1b[2J",
        7,
        "  ",
        "",
        ["a"],
        "PYTHONPATH=src rm perf/",
        "PYTHONPATH=src",
        "LD_PRELOAD=x pytest perf/",
    ],
)
def test_a_command_that_may_do_something_else_is_not_repeated(odd):
    made = replace(run(), perf={"command": odd, "settings": {"model": "a:b; rm"}})
    assert commands.measure(made) == "pytest perf/" and commands.tool(made) == "python -m perf"
    assert commands.gate(made, "main") == "pytest perf/ '--perf-model=a:b; rm' --perf-against=main"


@pytest.mark.parametrize(
    ("command", "there"),
    [
        ("pytest perf/ --perf-device=cpu -k step", "pytest perf/ -k step"),
        ("pytest perf/ --perf-device cpu -k 'a or b'", "pytest perf/ -k 'a or b'"),
        ('pytest "$STEPWATCH/perf" --perf-device=cpu', 'pytest "$STEPWATCH/perf"'),
        ("pytest perf/ --perf-device-count=2", "pytest perf/ --perf-device-count=2"),
        ("pytest perf/ -k 'training_step and cpu'", "pytest perf/ -k training_step"),
        ("pytest perf/ -k 'cpu and bs64 and epoch'", "pytest perf/ -k 'bs64 and epoch'"),
        ("pytest perf/ -k cpu --perf-data=digits", "pytest perf/ --perf-data=digits"),
        ("pytest perf/ -k cpuset", "pytest perf/ -k cpuset"),
        ("pytest perf/ -k 'epoch and cpu-bs64'", "pytest perf/ -k 'epoch and bs64'"),
        ("pytest perf/ -k 'cpu-bs64 and not workers'", "pytest perf/ -k 'bs64 and not workers'"),
        ("pytest perf/ -k 'epoch and not cpu'", "pytest perf/"),
        ("pytest 'perf/test_epoch.py::test_epoch[cpu-bs64-resident]'", "pytest perf/test_epoch.py::test_epoch"),
        ("PYTHONPATH=src pytest perf/ --perf-device=cpu", "PYTHONPATH=src pytest perf/"),
    ],
)
def test_the_command_for_a_gpu_does_not_choose_the_cpu(command, there):
    made = replace(CPU_RUN, perf=CPU_RUN.perf | {"command": command})
    assert f"{there} --benchmark-json=gpu.json " in render([made])


def test_a_long_command_is_printed_whole_in_lines_that_a_shell_reads_as_one():
    long = f"pytest perf/ --perf-model=net.py:Net --benchmark-storage=/{'x' * 60} --perf-data-root=/{'y' * 60}"
    made = replace(CPU_RUN, perf=CPU_RUN.perf | {"command": long})
    text = render([made], width=100).replace("\\\n", "")
    assert f"{long} --benchmark-json=gpu.json # on the machine with the GPU" in " ".join(text.split())


@pytest.mark.parametrize("length", [50, 56])
def test_what_a_command_is_for_stands_behind_it_or_before_it_and_nothing_else_is_between(length):
    place = f"/{'x' * length}/perf"
    made = replace(CPU_RUN, perf=CPU_RUN.perf | {"command": f"pytest {place}"})
    gpu = {
        50: ["# on the machine with the GPU", f"pytest {place} --benchmark-json=gpu.json"],
        56: [f"pytest {place} \\", "    --benchmark-json=gpu.json   # on the machine with the GPU"],
    }[length]
    lines = [*gpu, f"python {place} report cpu.json gpu.json"]
    assert render([made], width=100).splitlines()[-3:] == [f"    {line}" for line in lines]
