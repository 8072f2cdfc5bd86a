"""Runs in several modes in, text out: a table for each network, and what a mode is compared with."""

import csv
import json

import pytest

from perf.harness.report import render
from perf.harness.verdict.speedups import Speedups
from tests.report_runs import CPU_RUN, benchmark, foreign, run, steps

CPU_TIMES = {
    (64, "eager", "fp32"): 800e-6,
    (64, "eager", "bf16"): 900e-6,
    (64, "compile", "fp32"): 600e-6,
    (4096, "eager", "fp32"): 15e-3,
    (4096, "compile", "bf16"): 7e-3,
}
GPU_TIMES = {
    (64, "eager", "fp32"): 100e-6,
    (64, "cudagraph", "fp32"): 20e-6,
    (4096, "eager", "fp32"): 1e-4,
    (4096, "cudagraph", "bf16"): 5e-5,
}
CPU = run(*steps(CPU_TIMES, flop_per_sample=409e3, overhead_s=500e-6, cold_start_s=12.0, peak_bytes=1.5 * 2**30))
GPU = run(
    *steps(GPU_TIMES, "cuda", flop_per_sample=409e3, enqueue_s=50e-6),
    *steps({(64, "eager", "fp32"): 10e-3, (64, "compile", "fp32"): 9e-3}, "cuda", model="resnet18"),
    source="gpu.json",
)

CPU_TEXT = """\
Stepwatch

model     simple_nn, 409 kFLOP per sample and training step

Training step by mode: simple_nn on cpu

batch  execution  precision           time  samples/s  FLOP/s          vs eager fp32  bound by
-----  ---------  ---------  -------------  ---------  ------  ---------------------  ------------
   64  eager      fp32        800 µs ±0.5%     80,000  32.7 G                     1×  overhead 62%
   64  eager      bf16        900 µs ±0.5%     71,100  29.1 G  0.889× [0.878, 0.900]  overhead 56%
   64  compile    fp32        600 µs ±0.5%    107,000  43.6 G     1.33× [1.32, 1.35]  overhead 83%
 4096  eager      fp32       15.0 ms ±0.5%    273,000   112 G                     1×  compute 97%
 4096  compile    bf16       7.00 ms ±0.5%    585,000   239 G     2.14× [2.12, 2.17]  compute 93%
Columns left out at this width: first call, peak memory.

Start-up and memory

benchmark      execution  precision  device  first call, at most   peak memory, at most
-------------  ---------  ---------  ------  -------------------  ---------------------
Training step  eager      fp32       cpu                  12.0 s    1.50 GiB (batch 64)
Training step  eager      bf16       cpu                  12.0 s    1.50 GiB (batch 64)
Training step  compile    fp32       cpu                  12.0 s    1.50 GiB (batch 64)
Training step  compile    bf16       cpu                  12.0 s  1.50 GiB (batch 4096)

time: the median, ± half the interquartile range.
[…]: 95% interval of the ratio of medians within this run. Two runs of the same code differ by more.
bound by overhead: the fixed cost of each call takes most of the time; compute: the work on the
samples does.
peak memory: on an accelerator, what torch's allocator takes; on a CPU, what the whole process
takes.
vs eager fp32: speedup over eager fp32 on the same device.
FLOP/s: counts the matrix products, convolutions and attention of eager fp32.
first call: the time to build the network, compile it and make one step.
batch: another batch size is a different training. Compare only rows of the same batch size.

On this CPU the training step in eager fp32 reaches 273,000 samples/s at batch 4096.

Fastest way to train simple_nn on this CPU: --perf-execution=compile --perf-precision=bf16
--perf-batch-size=4096: 585,000 samples/s; 2.14× [2.12, 2.17] the speed of eager fp32 at this batch
size; its losses over 20 steps differ from eager's by less than 0.1%.

To compare with a GPU, copy its file here:

    pytest perf/ --benchmark-json=gpu.json   # on the machine with the GPU
    python -m perf report cpu.json gpu.json"""

TWO_TEXT = """\
Stepwatch

A  cpu.json
   model     simple_nn, 409 kFLOP per sample and training step

B  gpu.json
   model     simple_nn, 409 kFLOP per sample and training step; resnet18

Training step by mode: resnet18 on B:cuda

batch  execution           time  samples/s       vs eager fp32
-----  ---------  -------------  ---------  ------------------
   64  eager      10.0 ms ±0.5%      6,400                  1×
   64  compile    9.00 ms ±0.5%      7,110  1.11× [1.10, 1.12]

Training step by mode: simple_nn

batch  execution  precision  device           time  samples/s          vs eager fp32  vs A:cpu
-----  ---------  ---------  ------  -------------  ---------  ---------------------  --------
   64  eager      fp32       A:cpu    800 µs ±0.5%     80,000                     1×        1×
   64  eager      fp32       B:cuda   100 µs ±0.5%    640,000                     1×     8.00×
   64  eager      bf16       A:cpu    900 µs ±0.5%     71,100  0.889× [0.878, 0.900]    0.889×
   64  compile    fp32       A:cpu    600 µs ±0.5%    107,000     1.33× [1.32, 1.35]     1.33×
   64  cudagraph  fp32       B:cuda  20.0 µs ±0.5%  3,200,000     5.00× [4.94, 5.06]     40.0×
 4096  eager      fp32       A:cpu   15.0 ms ±0.5%    273,000                     1×        1×
 4096  eager      fp32       B:cuda   100 µs ±0.5%     41.0 M                     1×      150×
 4096  compile    bf16       A:cpu   7.00 ms ±0.5%    585,000     2.14× [2.12, 2.17]     2.14×
 4096  cudagraph  bf16       B:cuda  50.0 µs ±0.5%     81.9 M     2.00× [1.98, 2.02]      300×
Columns left out at this width: first call, peak memory, bound by, FLOP/s.

Start-up and memory

benchmark      execution  precision  device  first call, at most   peak memory, at most
-------------  ---------  ---------  ------  -------------------  ---------------------
Training step  eager      fp32       A:cpu                12.0 s    1.50 GiB (batch 64)
Training step  eager      bf16       A:cpu                12.0 s    1.50 GiB (batch 64)
Training step  compile    fp32       A:cpu                12.0 s    1.50 GiB (batch 64)
Training step  compile    bf16       A:cpu                12.0 s  1.50 GiB (batch 4096)

time: the median, ± half the interquartile range.
[…]: 95% interval of the ratio of medians within this run. Two runs of the same code differ by more.
bound by overhead: the fixed cost of each call takes most of the time; compute: the work on the
samples does.
bound by launch: the device waits for the host to launch its work; device: the device is busy.
peak memory: on an accelerator, what torch's allocator takes; on a CPU, what the whole process
takes.
vs eager fp32: speedup over eager fp32 on the same device.
vs A:cpu: speedup over eager fp32 on A:cpu.
fp32: without TF32, also in convolutions, where PyTorch uses it by default.
bound by: unknown for compiled steps, because their parts cannot be measured one by one.
FLOP/s: counts the matrix products, convolutions and attention of eager fp32.
first call: the time to build the network, compile it and make one step.
batch: another batch size is a different training. Compare only rows of the same batch size.

Training step, eager fp32: B:cuda is faster than A:cpu at every batch size measured, by 8.00× to
150×.

Best against best, training simple_nn: B:cuda reaches 81.9 M samples/s at batch 4096 in cudagraph
bf16, A:cpu reaches 585,000 samples/s at batch 4096 in compile bf16: 140× [138, 142].

On B:cuda the training step of resnet18 in eager fp32 reaches 6,400 samples/s at batch 64.

On B:cuda the training step of simple_nn in eager fp32 reaches 41.0 M samples/s at batch 4096.

On A:cpu the training step in eager fp32 reaches 273,000 samples/s at batch 4096.

Fastest way to train resnet18 on B:cuda: --perf-execution=compile --perf-batch-size=64: 7,110
samples/s; 1.11× [1.10, 1.12] the speed of eager fp32 at this batch size; its losses over 20 steps
differ from eager's by less than 0.1%.

Fastest way to train simple_nn on A:cpu: --perf-execution=compile --perf-precision=bf16
--perf-batch-size=4096: 585,000 samples/s; 2.14× [2.12, 2.17] the speed of eager fp32 at this batch
size; its losses over 20 steps differ from eager's by less than 0.1%.

Fastest way to train simple_nn on B:cuda: --perf-execution=cudagraph --perf-precision=bf16
--perf-batch-size=4096: 81.9 M samples/s; 2.00× [1.98, 2.02] the speed of eager fp32 at this batch
size; its losses over 20 steps differ from eager's by less than 0.1%.

Speed of training simple_nn on B:cuda, against the fastest mode of A:cpu at the same batch size: at
least 10× at every batch size measured (first in cudagraph fp32); at least 100× at batch 4096 (first
in cudagraph bf16); the highest is 140× [138, 142] at batch 4096, cudagraph bf16 against compile
bf16.

No speedup of B:cuda over A:cpu for training step: different model (resnet18, simple_nn)."""


def test_a_network_in_several_modes_gets_a_table_of_its_own_instead_of_the_plain_one():
    assert render([CPU]) == CPU_TEXT


def test_two_networks_on_two_devices_get_a_table_each():
    assert render([CPU, GPU]) == TWO_TEXT


@pytest.mark.parametrize("width", [80, 90, 100])
def test_a_page_of_80_columns_keeps_the_mode_the_time_and_what_it_is_worth(width):
    text = render([CPU, GPU], width=width)
    assert max(map(len, text.splitlines())) <= width
    lines = [line.split() for line in text.splitlines() if line.startswith("batch")]
    assert lines[1][:5] == ["batch", "execution", "precision", "device", "time"] and "eager" in lines[1]
    assert "…" not in text.replace("[…]", "")


def test_markdown_has_every_column():
    text = render([CPU], format="github")
    row = next(line for line in text.splitlines() if "compile" in line and "bf16" in line)
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "4096", "compile", "bf16", "7.00 ms ±0.5%", "585,000", "239 G", r"2.14× \[2.12, 2.17\]", "compute 93%",
        "1.50 GiB", "12.0 s",
    ]  # fmt: skip


def test_a_mode_is_compared_with_eager_fp32_and_a_device_with_the_same_mode():
    times = {(64, "eager", "fp32"): 8.0, (64, "compile", "fp32"): 4.0, (512, "compile", "fp32"): 1.0}
    faster = {mode: seconds / 10 for mode, seconds in times.items()} | {(64, "cudagraph", "fp32"): 0.1}
    rows = Speedups.of([run(*steps(times), *steps(faster, "cuda"))], None).rows
    found = {
        (row.label, row.batch_size, row.mode[0]): [
            ratio and round(ratio.point, 3) for ratio in (row.speedup, row.mode_speedup, row.full_speedup)
        ]
        for row in rows
    }
    assert found == {
        ("cpu", 64, "eager"): [None, None, None],
        ("cpu", 64, "compile"): [None, 2.0, 2.0],
        ("cpu", 512, "compile"): [None, None, None],
        ("cuda", 64, "eager"): [10.0, None, 10.0],
        ("cuda", 64, "compile"): [10.0, 2.0, 20.0],
        ("cuda", 64, "cudagraph"): [None, 8.0, 80.0],
        ("cuda", 512, "compile"): [10.0, None, None],
    }


def test_a_mode_that_one_device_does_not_have_is_no_failed_comparison_where_the_plain_one_is_compared():
    epochs = [benchmark("epoch", d, execution=e) for d, e in (("cpu", "eager"), ("cuda", "eager"), ("cuda", "compile"))]
    assert "No speedup" not in render([run(*epochs)])
    without = render([run(epochs[0], epochs[2])], width=200)
    assert "No speedup of cuda over cpu for epoch: different execution (compile, eager)." in without


def test_a_mode_whose_plain_one_is_compared_at_another_batch_size_only_is_a_failed_comparison():
    work = (("cpu", 64, "eager"), ("cpu", 512, "eager"), ("cuda", 512, "eager"), ("cuda", 64, "compile"))
    epochs = [benchmark("epoch", device, batch, execution=execution) for device, batch, execution in work]
    assert "No speedup of cuda over cpu for epoch: different execution (compile, eager)." in render([run(*epochs)])


def test_the_table_of_modes_compares_a_mode_that_the_reference_does_not_have():
    text = render([run(*steps({(64, "eager", "fp32"): 1.0}), *steps({(64, "cudagraph", "fp32"): 0.1}, "cuda"))])
    [row] = [line.split() for line in text.splitlines() if line.split()[1:2] == ["cudagraph"]]
    assert row == ["64", "cudagraph", "cuda", "100", "ms", "±0.5%", "640", "10.0×"]
    assert "No speedup" not in text


def test_a_network_that_is_only_eager_fp32_keeps_the_table_of_all():
    text = render([run(*steps(CPU_TIMES), benchmark("training_step", model="other"))])
    assert "\nTraining step by mode: simple_nn on cpu\n" in text and "\nTraining step\n" in text


def test_two_networks_in_eager_fp32_share_their_tables_as_ever():
    plain = [benchmark("training_step", model=model, cold_start_s=1.0) for model in ("a", "b")]
    text = render([run(*plain)])
    assert "by mode" not in text and text.count("\nTraining step  cpu ") == 1


def test_a_note_on_batch_sizes_needs_several():
    note = "batch: another batch size is a different training"
    assert note in render([CPU])
    assert note not in render([run(*steps({(64, "eager", "fp32"): 2.0, (64, "compile", "fp32"): 1.0}))])


def test_what_the_step_reaches_is_said_of_eager_fp32_wherever_it_was_measured():
    text = render([run(*steps({(64, "compile", "fp32"): 1.0, (512, "eager", "fp32"): 8.0}))])
    assert "On this CPU the training step in eager fp32 reaches 64.0 samples/s at batch 512." in text


def test_sentences_on_several_modes_are_on_the_plain_one_and_say_so():
    text = render([CPU, GPU], width=1000)
    assert text.count("B:cuda is faster than A:cpu") == 1
    assert "CROWDED" not in text
    unsteady = run(*steps({(64, "compile", "bf16"): 1.0}, crowding=1.0, model="resnet18"), benchmark("epoch"))
    assert "CROWDED on cpu: training step of resnet18 in compile bf16 at batch 64." in render([unsteady], width=1000)


def test_programs_get_the_mode_its_speedups_and_how_far_its_losses_are_from_eagers():
    rows = list(csv.DictReader(render([CPU], format="csv").splitlines()))
    plain, _, compiled, *_ = rows
    assert (plain["execution"], plain["precision"], plain["mode_speedup"], plain["parity_steps"]) == (
        "eager", "fp32", "", "",
    )  # fmt: skip
    assert (compiled["execution"], compiled["parity_steps"], compiled["parity_difference"]) == (
        "compile",
        "20",
        "3e-06",
    )
    assert float(compiled["mode_speedup"]) == float(compiled["full_speedup"]) == pytest.approx(8 / 6)
    assert float(compiled["mode_speedup_low"]) < 8 / 6 < float(compiled["mode_speedup_high"])
    assert float(compiled["flop_per_s"]) == pytest.approx(409e3 * 64 / 600e-6)
    assert compiled["bytes_per_sample"] == ""
    [foreigner, ours] = json.loads(render([run(foreign(), benchmark("epoch", precision=None))], format="json"))[::-1]
    assert (foreigner["execution"], ours["execution"], ours["precision"]) == (None, "eager", "fp32")


def test_a_record_without_a_mode_is_eager_fp32():
    [row] = Speedups.of([run(benchmark("epoch", execution=None, precision=None))], None).rows
    assert (row.mode, row.plain) == (("eager", "fp32"), True)


def test_epochs_in_modes_keep_their_table_and_say_what_the_mode_is_worth():
    times = (("dataloader", "eager", 9.0), ("resident", "eager", 1.0), ("resident", "compile", 0.8))
    epochs = [benchmark("epoch", pipeline=p, execution=e, seconds=s) for p, e, s in times]
    text = render([run(*epochs)])
    assert (
        """
execution  batch  pipeline    device          time  samples/s       vs dataloader  vs eager fp32
---------  -----  ----------  ------  ------------  ---------  ------------------  -------------
eager         64  dataloader  cpu     9.00 s ±0.5%       7.11                  1×             1×
eager         64  resident    cpu     1.00 s ±0.5%       64.0  9.00× [8.89, 9.11]             1×
compile       64  resident    cpu     800 ms ±0.5%       80.0                   –          1.25×
"""
        in text
    )
    inference = [benchmark("inference", precision=p, seconds=s) for p, s in (("fp32", 2.0), ("bf16", 1.0))]
    assert "bf16          64  cpu     1.00 s ±0.5%       64.0  2.00× [1.98, 2.02]\n" in render([run(*inference)])


def test_a_mode_that_all_rows_share_is_said():
    text = render([run(benchmark("epoch", execution="compile"))])
    assert "\nexecution  batch  device " in text and "\ncompile       64  cpu " in text
    assert "execution" not in render([CPU_RUN])


def test_a_step_that_waits_by_itself_is_bound_by_nothing_known():
    times = {(64, "eager", "fp32"): 1e-3, (64, "eager", "fp16"): 9e-4, (64, "compile", "fp16"): 8e-4}
    said = render([run(*steps(times, "cuda"))], width=110)
    assert "bound by: unknown in fp16, whose scaler makes the host wait for the device in each step." in said
    assert "compiled steps" not in said
