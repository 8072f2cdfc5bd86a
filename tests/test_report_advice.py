"""Runs in several modes in, sentences out: the fastest way to train, and how many times a CPU a GPU is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.record.run import Case
from perf.harness.report import render
from tests.report_runs import STEADY, run, steps

PLAIN, COMPILED, HALF = ("eager", "fp32"), ("compile", "fp32"), ("compile", "bf16")
SCATTERED = (0.6, 1.0, 1.7, 0.6, 1.0, 1.7)


def said(start, *benchmarks):
    """The sentences that begin so."""
    return [line for line in render([run(*benchmarks)], width=10**4).splitlines() if line.startswith(start)]


def way(*benchmarks):
    [sentence] = said("Fastest way", *benchmarks)
    return sentence.removeprefix("Fastest way to train ")


def of(times, batch=64, **info):
    return steps({(batch, *mode): seconds for mode, seconds in times.items()}, **info)


def test_the_fastest_way_is_what_to_type_and_what_it_gives():
    rows = [*of({PLAIN: 1.0, COMPILED: 0.8, HALF: 0.5}), *of({PLAIN: 4.0, COMPILED: 2.0, HALF: 3.0}, batch=512)]
    assert way(*rows) == (
        "simple_nn on this CPU: --perf-execution=compile --perf-batch-size=512: 256 samples/s; 2.00× [1.98, 2.02] "
        "the speed of eager fp32 at this batch size; its losses over 20 steps differ from eager's by less than 0.1%."
    )


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_what_is_the_default_anyway_needs_no_option(precision):
    rows = of({PLAIN: 2.0, ("eager", precision): 1.0}, device="cuda")
    assert way(*rows).startswith(
        f"simple_nn on cuda: --perf-precision={precision} --perf-batch-size=64: 64.0 samples/s"
    )


def test_where_eager_fp32_may_be_as_fast_nothing_is_said_to_be_faster():
    for seconds in (1.0, 0.999, 2.0):
        assert way(*of({PLAIN: 1.0, COMPILED: seconds})) == (
            "simple_nn on this CPU: --perf-batch-size=64: 64.0 samples/s, in eager fp32; no other mode is certainly "
            "faster at this batch size."
        )
    assert "no other mode is certainly faster" in way(*of({PLAIN: 1.0, COMPILED: 0.5}, samples=(1.0,)))


def test_a_mode_that_is_certainly_faster_wins_over_one_that_may_be():
    unsure = of({HALF: 0.9}, samples=(0.8, 1.0, 1.3) * 3)
    assert "--perf-execution=compile --perf-batch-size=64: 67.4" in way(*of({PLAIN: 1.0, COMPILED: 0.95}), *unsure)


def test_without_eager_fp32_at_that_batch_size_there_is_no_ratio():
    assert way(*of({PLAIN: 1.0}), *of({HALF: 1.0}, batch=512)) == (
        "simple_nn on this CPU: --perf-execution=compile --perf-precision=bf16 --perf-batch-size=512: 512 samples/s; "
        "eager fp32 was not measured at this batch size; its losses over 20 steps differ from eager's by less than "
        "0.1%."
    )
    unsteady = of({PLAIN: 1.0}, samples=SCATTERED)
    assert "; eager fp32 has no steady time at this batch size; " in way(*unsteady, *of({HALF: 1.0}))


def test_of_a_run_that_was_ended_it_is_the_fastest_of_those_measured():
    cases = [Case("perf/test_training_step.py::test_training_step[cpu-bs64-compile]", "not-run")]
    text = render([run(*of({PLAIN: 1.0, HALF: 2.0}), cases=cases)], width=10**4)
    assert "\nFastest way to train simple_nn on this CPU, of those measured before the run ended: " in text


def test_without_another_mode_at_that_batch_size_that_is_said():
    assert way(*of({PLAIN: 1.0}, batch=512), *of({HALF: 1.0})).endswith(
        "512 samples/s, in eager fp32; no other mode was measured at this batch size."
    )
    rows = [*of({PLAIN: 1.0}, batch=512), *of({HALF: 1.0}), *of({HALF: 0.1}, batch=512, samples=SCATTERED)]
    assert way(*rows).endswith("in eager fp32; no other mode has a steady time at this batch size.")


@pytest.mark.parametrize("info", [{"samples": SCATTERED}, {"crowding": 1.0}, {"throttled_rounds": 1}])
def test_times_that_are_not_the_machines_are_no_way_to_train(info):
    assert "--perf-precision" not in way(*of({PLAIN: 1.0, COMPILED: 0.9}), *of({HALF: 0.1}, **info))
    assert said("Fastest way", *of({PLAIN: 1.0, HALF: 0.1}, **info)) == []


def test_losses_that_were_not_compared_are_said_to_be_so():
    for info in ({"parity_difference": None}, {"parity_difference": "small", "parity_steps": None}):
        assert way(*of({PLAIN: 1.0, HALF: 0.5}, **info)).endswith("; its losses were not compared with eager's.")
    known = way(*of({PLAIN: 1.0, HALF: 0.5}, parity_steps=None, parity_difference=0.0))
    assert known.endswith("; its losses differ from eager's by at most 0%.")


def test_losses_in_another_precision_are_held_against_fp32s_too():
    for mode, says in (
        (HALF, "differ from eager's by less than 0.1% and end 2.9% from those in fp32."),
        (("eager", "bf16"), "end 2.9% from those in fp32."),
        (COMPILED, "differ from eager's by less than 0.1%."),
    ):
        sentence = way(*of({PLAIN: 1.0, mode: 0.5}, precision_difference=0.029))
        assert sentence.endswith(f"; its losses over 20 steps {says}")


def test_a_mode_whose_losses_are_others_is_left_out_and_named():
    rows = [*of({PLAIN: 1.0, COMPILED: 0.9}), *of({HALF: 0.1}, parity_difference=0.12, parity_steps=1)]
    assert "--perf-precision" not in way(*rows)
    assert said("LEFT OUT", *rows) == [
        "LEFT OUT on cpu: simple_nn in compile bf16 at batch 64: its losses over 1 step differ from eager's by at "
        "most 12%. Rounding does not explain this: the mode computes another training, so its speed does not count."
    ]
    assert said("LEFT OUT", *of({PLAIN: 1.0, HALF: 0.1}, parity_difference=0.0009)) == []


def test_of_a_training_that_multiplies_rounding_what_rounding_makes_is_said():
    known = {"parity_difference": 0.004, "parity_rounding": 0.003}
    assert way(*of({PLAIN: 1.0, COMPILED: 0.5}, **known)).endswith(
        "; its losses over 20 steps differ from eager's by at most 0.4% (rounding alone makes 0.3%)."
    )
    assert said("LEFT OUT", *of({PLAIN: 1.0, COMPILED: 0.5}, **known | {"parity_difference": 0.01}))


def test_what_could_not_be_compiled_as_one_graph_is_said_once_with_the_reason():
    rows = [
        *of({PLAIN: 1.0, COMPILED: 1.1, HALF: 1.2}, graph_break="Unsupported Tensor.item() call"),
        *of({PLAIN: 1.0, COMPILED: 0.5}, model="whole", graph_break=None),
    ]
    assert said("GRAPH BREAK", *rows) == [
        "GRAPH BREAK on cpu: torch.compile cannot take simple_nn as one graph: Unsupported Tensor.item() call. The "
        "code between the graphs stays eager, so compiling gains less than it could."
    ]


def test_each_network_and_device_has_a_sentence_and_one_without_modes_has_none():
    rows = [
        row
        for device in ("cpu", "cuda")
        for model in ("a", "b")
        for row in of({PLAIN: 1.0, COMPILED: 0.5}, device=device, model=model)
    ]
    assert [line.split(":")[0].removeprefix("Fastest way to train ") for line in said("Fastest", *rows)] == [
        "a on this CPU", "a on cuda", "b on this CPU", "b on cuda",
    ]  # fmt: skip
    assert said("Fastest", *of({PLAIN: 1.0})) == said("Speed of training simple_nn", *of({PLAIN: 1.0})) == []
    assert said("SMOKE: Fastest", *of({PLAIN: 1.0, COMPILED: 0.5}, profile="smoke")) != []


def test_what_no_option_chooses_is_no_way_to_train():
    odd = [*of({PLAIN: 1.0, ("$(rm)", "fp32"): 0.1, ("compile", "int4"): 0.1}), *of({HALF: 0.1}, batch=0.5)]
    assert said("Fastest way", *odd) == []


# A GPU against a CPU

GRAPH = ("cudagraph", "bf16")


def duel(*pairs, **info):
    """The sentence on a GPU at batch 64, 128, …; each pair is a CPU's times and the GPU's."""
    rows = []
    for place, (cpu, gpu) in enumerate(pairs):
        rows += [*of(cpu, 64 << place, **info), *of(gpu, 64 << place, device="cuda", **info)]
    [sentence] = said("Speed of training simple_nn on cuda", *rows)
    start = "Speed of training simple_nn on cuda, against the fastest mode of cpu at the same batch size: "
    assert sentence.startswith(start)
    return sentence.removeprefix(start)


def test_a_gpu_is_ten_and_a_hundred_times_a_cpus_fastest_mode_from_a_batch_size_and_a_mode_on():
    cpu = {PLAIN: 2.0, COMPILED: 1.0}
    assert duel((cpu, {PLAIN: 0.5}), (cpu, {PLAIN: 0.05, GRAPH: 0.04}), (cpu, {PLAIN: 0.02, GRAPH: 0.002})) == (
        "at least 10× from batch 128 on (first in eager fp32); at least 100× at batch 256 (first in cudagraph bf16); "
        "the highest is 500× [494, 506] at batch 256, cudagraph bf16 against compile fp32."
    )
    assert duel((cpu, {PLAIN: 0.05}), (cpu, {GRAPH: 0.05})) == (
        "at least 10× at every batch size measured (first in eager fp32); never 100×; "
        "the highest is 20.0× [19.8, 20.2] at batch 64, eager fp32 against compile fp32."
    )


def test_a_gpu_that_never_gets_there_is_said_to_be_nowhere_ten_times():
    assert duel(({PLAIN: 2.0, COMPILED: 1.0}, {PLAIN: 0.5, GRAPH: 0.125})) == (
        "never 10×; the highest is 8.00× [7.91, 8.10] at batch 64, cudagraph bf16 against compile fp32."
    )
    assert duel(({PLAIN: 1.0}, {GRAPH: 1 / 10.05})).startswith("never certainly 10×; the highest is 10.1× [9.9")
    assert duel(({PLAIN: 1.0}, {GRAPH: 0.01}), samples=(1.0,)).startswith("never certainly 10×; the highest is 1")


def test_a_gpu_is_not_held_against_another_network_batch_size_or_training():
    cpu, gpu = of({PLAIN: 1.0, COMPILED: 0.9}), {PLAIN: 0.1, GRAPH: 0.01}
    for info in ({"batch": 512}, {"model": "resnet18"}, {"data": "digits"}, {"parity_difference": 1.0, "crowding": 1}):
        assert said("Speed of training simple_nn on cuda", *cpu, *of(gpu, device="cuda", **info)) == []
    assert said("Speed of training simple_nn on cuda", *cpu, *of({PLAIN: 0.1}, device="cuda"))
    assert (
        said("Speed of training simple_nn", *cpu) == said("Speed of training simple_nn", *of(gpu, device="cuda")) == []
    )


@given(st.dictionaries(st.tuples(st.sampled_from([64, 512]), st.sampled_from(["eager", "compile", "x"]),
                                 st.sampled_from(["fp32", "bf16"])), st.floats(1e-9, 1e9)),
       st.sampled_from([STEADY, (1.0,), SCATTERED]), st.none() | st.floats() | st.text(max_size=3))  # fmt: skip
def test_whatever_was_measured_the_fastest_way_is_no_slower_than_eager_fp32(times, samples, difference):
    rows = steps(times, samples=samples, parity_difference=difference)
    for sentence in said("Fastest way", *rows):
        if " the speed of eager" in sentence:
            assert float(sentence.split("×")[0].rsplit("; ", 1)[1].replace(",", "")) >= 1


def test_the_cpus_fastest_mode_is_the_reference_cpus_and_may_be_eager():
    cpu = {PLAIN: 1.0, HALF: 2.0}
    assert duel((cpu, {GRAPH: 0.5})).endswith("2.02] at batch 64, cudagraph bf16 against eager fp32.")
    runs = [run(*of(cpu)), run(*of({PLAIN: 4.0}), *of({GRAPH: 0.5}, device="cuda"))]
    for reference, times in ((None, "2.00×"), ("B:cpu", "8.00×"), ("B:cuda", "2.00×")):
        text = render(runs, reference=reference, width=1000)
        assert f"B:cuda, against the fastest mode of {'B' if times == '8.00×' else 'A'}:cpu at the same" in text
        assert f"the highest is {times}" in text
