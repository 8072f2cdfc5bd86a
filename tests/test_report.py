"""Runs in, text out: exact texts of small reports, and what holds for any names and numbers."""

import csv
import json
import math
import re
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perf.harness.options import PIPELINES
from perf.harness.record import Benchmark, Case, Run
from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.report import FORMATS, encodable, header, render
from perf.harness.verdict.stored_runs import medians_of
from tests.report_runs import CPU_RUN, GPU, MACHINE, benchmark, foreign, run

CPU_TEXT = """\
Stepwatch

cpu       AMD EPYC, 2 cores, AVX2, 8.00 GiB
cuda      absent: no NVIDIA driver found
software  torch 2.15.0, CUDA 13.0, 1 thread, Python 3.11.7
data      mnist, 60,000 training samples, 10,000 test samples (checked)
model     simple_nn, 101,770 parameters, 610 kFLOP per sample and training step
run       profile standard, on box
settings  seed=0

Training step

batch  device           time  samples/s  bound by
-----  ------  -------------  ---------  ------------
   64  cpu      800 µs ±0.5%     80,000  overhead 75%
  512  cpu     3.20 ms ±0.5%    160,000  compute 81%

Epoch

batch  pipeline    device          time  samples/s       vs dataloader  bound by
-----  ----------  ------  ------------  ---------  ------------------  ---------
   64  dataloader  cpu     9.00 s ±0.5%      6,670                  1×  input 85%
   64  resident    cpu     900 ms ±0.5%     66,700  10.0× [9.88, 10.1]  step 95%

Input pipeline

batch  pipeline    device           time  samples/s
-----  ----------  ------  -------------  ---------
   64  dataloader  cpu     9.14 ms ±0.5%      7,000

Training run (5 epochs)

batch  pipeline  device          time  samples/s  accuracy  final loss
-----  --------  ------  ------------  ---------  --------  ----------
   64  resident  cpu     4.50 s ±0.5%     66,700     92.3%       0.271

Start-up and memory

benchmark      device  first call, at most  peak memory, at most
-------------  ------  -------------------  --------------------
Training step  cpu                 50.0 ms   600 MiB (batch 512)

time: the median, ± half the interquartile range.
[…]: 95% interval of the ratio of medians within this run. Two runs of the same code differ by more.
bound by overhead: the fixed cost of each call takes most of the time; compute: the work on the
samples does.
bound by input: the share of an epoch that goes to waiting for batches and copying them; step: the
share that goes to training steps.
peak memory: on an accelerator, what torch's allocator takes; on a CPU, what the whole process
takes.

measured 1 · skipped 1 (cuda: no NVIDIA driver found) · failed 0

On this CPU the training step reaches 80,000 samples/s at batch 64; the dataloader pipeline delivers
7,000/s, so an epoch waits for input 85% of its time: resident makes it 10.0× faster.

To compare with a GPU, copy its file here:

    pytest perf/ --benchmark-json=gpu.json   # on the machine with the GPU
    python -m perf report cpu.json gpu.json"""


TWO_TEXT = """\
Stepwatch

A  cpu.json
   model     simple_nn

B  gpu.json
   cuda      H100, 132 multiprocessors, 79.2 GiB, driver 580.65
   model     simple_nn

Training step

batch  device           time  samples/s       speedup vs A:cpu  bound by
-----  ------  -------------  ---------  ---------------------  --------
   64  A:cpu   1.00 ms ±0.5%     64,000                     1×  –
   64  B:cuda  2.00 ms ±0.5%     32,000  0.500× [0.494, 0.506]  launch
  512  A:cpu   3.00 ms ±0.5%    171,000                     1×  –
  512  B:cuda  3.00 ms ±0.5%    171,000    1.00× [0.988, 1.01]  device
 1024  A:cpu   6.00 ms ±0.5%    171,000                     1×  –
 1024  B:cuda  1.00 ms ±0.5%  1,020,000     6.00× [5.93, 6.07]  device

time: the median, ± half the interquartile range.
[…]: 95% interval of the ratio of medians within this run. Two runs of the same code differ by more.
bound by launch: the device waits for the host to launch its work; device: the device is busy.
fp32: without TF32, also in convolutions, where PyTorch uses it by default.

Training step: B:cuda is faster than A:cpu at batch 1024, by 6.00×; slower at batch 64, by 2.00×; at
batch 512, the two show no certain difference.

Best against best, training simple_nn: B:cuda reaches 1,020,000 samples/s at batch 1024, A:cpu
reaches 171,000 samples/s at batch 512: 6.00× [5.93, 6.07]. Another batch size is another training.

On A:cpu the training step reaches 171,000 samples/s at batch 512.

On B:cuda the training step reaches 1,020,000 samples/s at batch 1024."""


def test_a_machine_with_a_cpu_gets_its_tables_and_a_conclusion():
    assert render([CPU_RUN]) == CPU_TEXT


def test_what_a_step_costs_has_columns_where_it_is_known():
    costs = {"flop_per_sample": 1e6, "matmul_flop_per_s": 1.28e9, "energy_j": 6.4, "energy_calls": 100, "energy_s": 3.0}
    text = render([run(benchmark("training_step", seconds=0.1, **costs), benchmark("inference", seconds=0.1))])
    assert re.search(r"batch .* samples/s +of matmul +J/sample\n-.*\n +64 .* 640 +50% +1\.00 mJ\n", text)
    assert "of matmul: FLOP/s as a share of this device's own matrix products in that precision" in text
    assert "J/sample: the energy that the device's own counter shows" in text
    # No step is faster than its products: another program has disturbed their measurement.
    disturbed = render([run(benchmark("training_step", seconds=0.1, **costs | {"matmul_flop_per_s": 1e6}))])
    assert "matmul" not in disturbed
    assert "unknown" not in text
    del costs["energy_j"]
    uncounted = render([run(benchmark("training_step", seconds=0.1, **costs))])
    assert "J/sample: unknown on cpu, whose energy no counter showed." in uncounted
    plain = render([run(benchmark("training_step", seconds=0.1))])
    assert "matmul" not in plain and "J/sample" not in plain


def test_two_machines_get_letters_and_the_device_that_wins_is_named():
    cpu = run(
        *(benchmark("training_step", batch=size, seconds=t) for size, t in ((64, 1e-3), (512, 3e-3), (1024, 6e-3)))
    )
    gpu = run(
        benchmark("training_step", "cuda", 64, seconds=2e-3, enqueue_s=1.9e-3),
        benchmark("training_step", "cuda", 512, seconds=3e-3, enqueue_s=1e-3),
        benchmark("training_step", "cuda", 1024, seconds=1e-3, enqueue_s=1e-4),
        source="gpu.json",
        devices={"cuda": GPU},
    )
    assert render([cpu, gpu]) == TWO_TEXT


MARKDOWN = r"""## Stepwatch

### Other benchmarks

| name                       |   median |   spread |   rounds |
|:---------------------------|---------:|---------:|---------:|
| a\|b\\c\<b\>\`\*\_\[x\](y) |  2.00 µs |     ±50% |        5 |

time: the median, ± half the interquartile range."""


def test_markdown_has_tables_and_no_markup_of_strangers():
    name = "a|b\\c<b>`*_[x](y)"
    text = render([run(foreign(name, rounds=5, q1=1e-6, q3=3e-6), source="x.json")], format="github")
    assert text == MARKDOWN


def test_csv_has_raw_numbers_with_units_in_the_column_names():
    rows = list(csv.DictReader(render([CPU_RUN], format="csv").splitlines()))
    assert len(rows) == 6
    step = rows[0]
    assert float(step["median_s"]) == pytest.approx(800e-6)
    assert float(step["samples_per_s"]) == pytest.approx(80_000)
    assert step["bound_by"] == "overhead"
    assert float(step["bound_share"]) == pytest.approx(0.75)
    assert (step["batch_size"], step["pipeline"], step["speedup"]) == ("64", "", "")
    [resident] = [row for row in rows if row["benchmark"] == "epoch" and row["pipeline"] == "resident"]
    assert float(resident["pipeline_speedup"]) == pytest.approx(10)
    assert float(resident["pipeline_speedup_low"]) < 10 < float(resident["pipeline_speedup_high"])


def test_a_row_that_was_only_judged_says_which_case_it_is():
    ours, theirs = "epoch[cpu-bs64-resident-compile]", "sort[cpu-bs64]"
    judged = [Judgement(f"perf/test_x.py::test_{name}", Verdict.MISSING) for name in (ours, theirs)]
    found = csv.DictReader(render([replace(run(), judgements=tuple(judged))], format="csv").splitlines())
    keys = ("benchmark", "device", "batch_size", "pipeline", "execution", "precision")
    assert [[row[key] for key in keys] for row in found] == [
        ["epoch", "cpu", "64", "resident", "compile", "fp32"],
        ["sort", "", "", "", "", ""],
    ]


def test_json_has_the_columns_of_the_csv_and_null_for_what_is_unknown():
    rows = json.loads(render([CPU_RUN], format="json"))
    assert [list(row) for row in rows] == [render([CPU_RUN], format="csv").splitlines()[0].split(",")] * 6
    assert rows[0]["speedup"] is None and rows[0]["batch_size"] == 64 and rows[0]["complete"] is True


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_the_csv_is_a_formula(start):
    [row] = csv.DictReader(render([run(foreign(f'{start}HYPERLINK("http://x")'))], format="csv").splitlines())
    assert row["name"].startswith("'")


def test_a_title_of_the_csv_that_a_user_has_chosen_has_no_control_sequence():
    made = benchmark("training_run", metrics={"\x1b[31mred": 0.5})
    titles = render([run(made)], format="csv").splitlines()[0]
    assert "metrics." in titles and "red" in titles and "\x1b" not in titles


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="'html' is none of terminal, github, csv, json"):
        render([CPU_RUN], format="html")


# Header


def test_the_header_names_the_machine_and_why_a_device_is_absent():
    assert header(replace(CPU_RUN, benchmarks=())) == [
        "cpu       AMD EPYC, 2 cores, AVX2, 8.00 GiB",
        "cuda      absent: no NVIDIA driver found",
        "software  torch 2.15.0, CUDA 13.0, 1 thread, Python 3.11.7",
        "data      mnist, 60,000 training samples, 10,000 test samples (checked)",
        "run       profile standard, on box",
        "settings  seed=0",
    ]


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"cpu_cores": 8, "physical_cores": 4}, "cpu       AMD EPYC, 8 cores, 4 physical, AVX2, 8.00 GiB"),
        ({"quota_cores": 1.5}, "cpu       AMD EPYC, 2 cores, quota 1.50 cores, AVX2, 8.00 GiB"),
        ({"threads": 8, "physical_cores": 4},
         "software  torch 2.15.0, CUDA 13.0, 8 threads (more than the 4 physical cores), Python 3.11.7"),
        ({"threads": 2, "physical_cores": 4, "quota_cores": 1.5},
         "software  torch 2.15.0, CUDA 13.0, 2 threads (more than the quota of 1.50 cores), Python 3.11.7"),
        ({"governor": "powersave", "allocator": "jemalloc", "openmp_settings": "OMP_PROC_BIND=TRUE",
          "denormals": "flushed"}, "set-up    governor powersave, jemalloc, OMP_PROC_BIND=TRUE, denormals flushed"),
    ],
)  # fmt: skip
def test_the_header_says_what_of_the_cpu_is_not_as_usual(facts, line):
    environment = {**MACHINE["environment"], **facts}
    usual = {"physical_cores": 2, "quota_cores": None, "governor": "performance", "allocator": "glibc 2.36",
             "allocator_settings": "", "openmp_settings": "", "denormals": "kept"}  # fmt: skip
    assert line in header(run(**MACHINE | {"environment": environment}))
    assert not any(one.startswith("set-up") for one in header(run(**MACHINE | {"environment": {**usual}})))


def test_the_header_of_a_strangers_file_takes_what_pytest_benchmark_knows():
    machine = {"node": "box", "python_version": "3.12.1", "cpu": {"brand_raw": "M3", "count": 8}}
    assert header(Run("x", "2026-11-23T10:48:00.1+00:00", (), machine=machine)) == [
        "cpu       M3, 8 cores",
        "software  Python 3.12.1",
        "run       2026-11-23 10:48:00 UTC, on box",
    ]


def test_a_time_of_unknown_zone_is_shown_as_it_is():
    assert header(Run("x", "2026-11-23T10:48:00.1", ())) == ["run       2026-11-23 10:48:00"]


@pytest.mark.parametrize("perf", [
    {"environment": [], "devices": "x", "data": 3, "settings": None},
    {"environment": {"cpu_cores": "two", "memory_bytes": {}, "threads": -1.5}, "devices": {"cuda": 7}},
    {"devices": {"cuda": {"name": ["x"], "multiprocessors": 1e400, "memory_bytes": -1}}, "profile": {}},
    {"fingerprint_id": {"a": 1}, "profile": [], "host_name": 5, "data": {"digest": [], "train_samples": "x"}},
])  # fmt: skip
def test_sections_of_the_wrong_shape_are_survived(perf):
    for format in FORMATS:
        render([run(benchmark("epoch"), **perf), run(benchmark("epoch", "cuda"), **perf)], format=format)


def test_a_long_fact_goes_on_in_the_next_line_under_the_first():
    long = replace(CPU_RUN, perf={"data": {"name": "mnist", "note": " ".join(["word"] * 20)}}, benchmarks=())
    assert header(long) == [
        "data      mnist (word word word word word word word word word word word word word word word word",
        "          word word word word)",
    ]
    assert render([long]).splitlines()[2:4] == header(long)
    assert (
        all(len(line) <= 100 for line in header(run(host_name="x" * 10**6)))
        and len(header(run(host_name="x" * 999))) == 4
    )


# The page


def test_a_table_does_not_rewrite_numbers_and_names_that_look_like_them():
    rows = [benchmark("training_run", "cpu", pipeline="007", loss_last=0.27), benchmark("epoch", "1e5")]
    for format in ("terminal", "github"):
        text = render([run(*rows)], format=format)
        assert " 0.270" in text and " 007 " in text and " 1e5 " in text


def test_what_was_left_out_is_named():
    text = render([CPU_RUN], width=60)
    assert "Columns left out at this width: vs dataloader" in text
    assert max(map(len, COMMAND.sub("", text).splitlines())) <= 60


def test_a_terminal_without_our_signs_gets_stand_ins_in_the_same_columns():
    for line, plain in zip(CPU_TEXT.splitlines(), encodable(CPU_TEXT, "ascii").splitlines(), strict=True):
        assert plain.isascii() and len(plain) == len(line) and "?" not in plain
    assert encodable("1.2× ±3% 4 µs", "ascii") == "1.2x ~3% 4 us"
    assert encodable(CPU_TEXT, "utf-8") == CPU_TEXT


@pytest.mark.parametrize("format", FORMATS)
def test_no_control_sequence_reaches_the_page(format):
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\n| x |\u202e\u2028"
    info = {key: evil for key in ("model", "data", "device", "pipeline", "precision", "profile", "timing")}
    hostile = Run(
        source=evil,
        datetime=evil,
        benchmarks=(benchmark("epoch"), replace(benchmark("epoch", **info), name=evil), foreign(evil), benchmark(evil)),
        cases=(Case(evil, evil, evil), Case(evil, "skipped", evil), Case(evil, "failed", evil)),
        complete=False,
        perf={"host_name": evil, "profile": evil, "settings": {evil: evil}, "data": {"name": evil, "note": evil},
              "environment": dict.fromkeys(MACHINE["environment"], evil),
              "devices": {evil: {"absent": evil}, "cuda": {"name": evil}}},
    )  # fmt: skip
    for runs in ([hostile], [hostile, CPU_RUN]):
        text = render(runs, format=format)
        assert all(line.isprintable() for line in text.split("\n"))
    assert all(line.isprintable() for line in header(hostile))


text = st.text(max_size=120)
number = st.none() | text | st.floats() | st.integers() | st.floats(min_value=1e-9, max_value=1e9)
kinds = st.sampled_from(["training_step", "inference", "epoch", "input_pipeline", "training_run"]) | text
times = st.lists(st.floats(min_value=1e-18, max_value=1e10), min_size=1, max_size=4)


@st.composite
def benchmarks(draw):
    info = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "benchmark": kinds,
                "device": st.sampled_from(["cpu", "cuda"]) | text,
                "pipeline": st.sampled_from(["dataloader", "resident"]) | text,
                "execution": st.sampled_from(["eager", "compile", "cudagraph"]) | text | st.none(),
                "precision": st.sampled_from(["fp32", "bf16"]) | text | st.none(),
                "phases_s": st.dictionaries(st.sampled_from(["data_wait", "copy"]), number),
                **dict.fromkeys(("model", "data", "profile", "timing"), text),
                **dict.fromkeys(
                    ("batch_size", "samples_per_s", "samples_per_iteration", "peak_bytes", "cold_start_s", "epochs",
                     "accuracy", "loss_last", "overhead_s", "enqueue_s", "phases_wall_s", "parameters",
                     "flop_per_sample", "bytes_per_sample", "parity_steps", "parity_difference", "throttled_rounds"),
                    number,
                ),
            },
        )
    )  # fmt: skip
    return Benchmark(draw(text), draw(text), None, tuple(draw(times)), 1, {}, info)


runs_of_anything = st.builds(
    Run,
    source=text,
    datetime=text,
    benchmarks=st.lists(benchmarks(), max_size=5).map(tuple),
    cases=st.lists(
        st.builds(Case, text, st.sampled_from(["measured", "skipped", "failed"]) | text, text), max_size=3
    ).map(tuple),
    complete=st.booleans(),
    perf=st.fixed_dictionaries(
        {},
        optional={
            "settings": st.dictionaries(text, number, max_size=3),
            "environment": st.fixed_dictionaries({}, optional=dict.fromkeys(MACHINE["environment"], number)),
            "devices": st.dictionaries(text, st.dictionaries(st.sampled_from(list(GPU)), number), max_size=2),
            "data": st.fixed_dictionaries({}, optional=dict.fromkeys(MACHINE["data"], number)),
        },
    ),
)


def columns_of(line):
    """How many columns a terminal needs for `line`."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


COMMAND = re.compile(r"^    (?:pytest|python) (?:.*\\\n)*.*$", re.MULTILINE)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(runs_of_anything, min_size=1, max_size=3), st.integers(min_value=50, max_value=100))
def test_whatever_the_names_and_numbers_no_line_is_wider_than_the_page(runs, width):
    lines = render(runs, width=width).split("\n")
    assert all(line.isprintable() for line in lines)
    typed = COMMAND.sub("", "\n".join(lines))  # a command that is broken anywhere is another one
    assert all(columns_of(line) <= width for line in typed.split("\n"))
    for line in header(runs[0]):
        assert columns_of(line) <= 100


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(runs_of_anything, min_size=1, max_size=2))
def test_whatever_the_names_and_numbers_programs_can_read_csv_and_json(runs):
    total = sum(len(run.benchmarks) for run in runs)
    rows = json.loads(render(runs, format="json"), parse_constant=lambda token: pytest.fail(token))
    assert len(rows) == total
    assert all(math.isfinite(v) for row in rows for v in row.values() if isinstance(v, float))
    table = render(runs, format="csv").split("\n")
    assert len(list(csv.reader(table))) == len(table) == total + 1
    assert all(line.isprintable() for line in render(runs, format="github").split("\n"))


def test_a_run_of_the_gate_is_reported_by_its_verdicts():
    slower = Judgement("perf/test_x.py::test_x[cpu]", Verdict.SLOWER, "", 1.1, 1.05, 1.15, 1e-3, 1.1e-3, 4)
    text = render([replace(run(), judgements=(slower,))])
    assert "x[cpu]     1.00 ms → 1.10 ms  +10% [+5.0%, +15%]  SLOWER" in text
    assert "Nothing was measured" not in text


PASSES = {"pass_rounds": {"1": 1, "2": 1, "3": 1, "4": 1, "5": 1}}


def test_passes_of_two_kinds_are_said_in_the_row_and_in_a_sentence():
    slow = benchmark("epoch", pipeline="resident", samples=(0.552, 0.55, 0.952, 0.554, 0.948), **PASSES)
    said = render([run(slow)], width=110)
    assert "552 ms or 950 ms (2 of 5)  BIMODAL" in said
    assert "time: A or B (2 of 5): of 5 passes, 2 were slow and took B." in said
    fast_and_slow = "epoch with resident at batch 64 (1.72×). They are fast in some processes, and slow in others."
    assert f"BIMODAL on cpu: {fast_and_slow} Threads that wait" in " ".join(said.split())
    alone = replace(run(slow), perf=run(slow).perf | {"environment": {"threads": 1}})
    assert "--perf-threads" not in render([alone])
    on_gpu = benchmark("epoch", "cuda", pipeline="resident", samples=(0.552, 0.55, 0.952, 0.554, 0.948), **PASSES)
    said = " ".join(render([run(on_gpu)]).split())
    assert f"BIMODAL on cuda: {fast_and_slow} Each process may find the device at another clock" in said
    assert "--perf-threads" not in said


def test_the_time_of_passes_has_the_interval_between_them():
    steady = benchmark("training_step", samples=(1.0, 1.01, 1.02, 1.01, 1.0), **PASSES)
    said = render([run(steady)], width=110)
    assert "1.01 s ±1.3%" in said
    assert "time: the median of the passes through all cases, ± half its 95% interval between them." in said
    assert "interquartile" not in said


def test_a_ratio_of_passes_says_where_its_interval_is_from():
    pair = [benchmark("epoch", pipeline=name, samples=(1.0, 1.01, 1.02, 1.01, 1.0), **PASSES) for name in PIPELINES[:2]]
    said = render([run(*pair)], width=110)
    assert "[…]: 95% interval of the ratio, from how much the passes differ." in said
    assert "within this run" not in said


def test_a_stored_run_of_passes_is_the_median_of_their_medians():
    (only,) = medians_of(
        run(benchmark("epoch", samples=(1.0, 1.0, 9.0, 9.0, 9.0), pass_rounds={"1": 1, "2": 1, "3": 3}))
    )
    assert list(only.seconds.values()) == [pytest.approx(1.0)]


def test_an_interval_without_an_end_is_no_number():
    said = render([run(benchmark("training_step", samples=(1.0, 3.0), pass_rounds={"1": 1, "2": 1}))], width=110)
    assert "±>999%" in said


def test_a_record_whose_passes_do_not_add_up_is_one_pass():
    odd = benchmark("training_step", samples=(1.0, 1.0, 1.0), pass_rounds={"1": 1, "2": 1})
    assert odd.passes == ((1.0, 1.0, 1.0),)


def test_a_case_that_had_time_for_one_pass_only_is_marked():
    step = benchmark("training_step", samples=(1.0, 1.0, 1.0, 1.0, 1.0), **PASSES)
    long = benchmark("epoch", samples=(30.0, 31.0, 32.0), pass_rounds={"1": 3})
    said = render([run(step, long, passes=5)], width=110)
    assert "31.0 s ±1.6% (1 pass)" in said and said.count("(1 pass)") == 2
    assert "time (1 pass): no time for more passes; ± half the interquartile range of its rounds." in said
    assert "time: the median, ± half" not in said
    ended = render([replace(run(step, long, passes=5), complete=False)], width=110)
    assert "time (1 pass): the run ended before more passes; ± half the interquartile range of its rounds." in ended
    assert "31.0 s ±1.6% (1 pass)" in render([run(long, passes=5)], width=110), "also if no case had time for more"
    assert "(1 pass)" not in render([run(long)], width=110), "a run of one pass"


def test_where_an_interval_comes_from_is_said_of_the_files_that_have_one():
    passes = {"samples": (1.0, 1.01, 0.99, 1.0, 1.02), **PASSES}
    steps = [benchmark("training_step", **passes), benchmark("training_step", device="cuda", **passes)]
    single = benchmark("inference", samples=(1.0, 3.0))
    said = [render([run(*steps), run(single)], width=110), render([run(*steps, single)], width=110)]
    assert ["from how much the passes differ" in one for one in said] == [True, False]
    assert ["within this run" in one for one in said] == [False, True]


def test_a_single_round_has_no_spread_and_that_is_said():
    once = benchmark("epoch", samples=(30.0,), pass_rounds={"1": 1})
    said = render([run(once, passes=5)], width=110)
    assert "30.0 s (1 pass)" in said
    note = "time (1 pass): no time for more passes; ± half the interquartile range of its rounds"
    assert f"{note}; one round has none." in said
    twice = render([run(benchmark("epoch", samples=(30.0, 31.0), pass_rounds={"1": 2}), passes=5)], width=110)
    assert f"{note}." in twice


def test_a_case_that_had_time_for_two_passes_is_marked():
    step = benchmark("training_step", samples=(1.0, 1.0, 1.0, 1.0, 1.0), **PASSES)
    twice = benchmark("epoch", samples=(30.0, 31.0), pass_rounds={"1": 1, "2": 1})
    said = render([run(step, twice, passes=5)], width=110)
    assert "30.5 s ±21% (2 passes)" in said
    assert "time (2 passes): no time for more passes; the interval between two is wide." in said
    wide = "time: with two passes, the interval is wide; --perf-passes=3 makes it less than a third as wide."
    assert wide not in said
    planned = render([run(twice, passes=2)], width=110)
    assert "(2 passes)" not in planned and wide in planned
