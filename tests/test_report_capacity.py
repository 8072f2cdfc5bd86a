"""Records of memory in, a table and sentences out; they are no part of any comparison of times."""

import pytest

from perf.harness.report import render
from perf.harness.verdict.stored_runs import medians_of
from perf.harness.workload.benchmarks import timed
from tests.report_runs import CPU_RUN, benchmark, run

PARTS = {"weight_bytes": 2**20, "gradient_bytes": 2**20, "optimizer_bytes": 0, "activation_bytes": 2**19}


def memory(batch, device="cpu", **info):
    return benchmark("memory", device, batch, **PARTS | {"peak_bytes": 3 * 2**20} | info)


def found(device="cpu", **info):
    known = {"largest_batch": 9000, "sufficient_batch": 512, "memory_limit_bytes": 2 * 10**9}
    return benchmark("largest_batch", device, 512, **known | {"limited_by": "out of memory"} | info)


def test_the_memory_of_a_step_is_a_table_by_batch_and_part():
    assert """\
Memory of a training step

batch  device   weights  gradients  optimizer  activations      peak
-----  ------  --------  ---------  ---------  -----------  --------
   64  cpu     1.00 MiB   1.00 MiB        0 B      512 KiB  3.00 MiB
  512  cpu     1.00 MiB   1.00 MiB        0 B               3.00 MiB
""" in render([run(memory(512, activation_bytes=None), memory(64))])


@pytest.mark.parametrize(
    ("info", "says"),
    [
        ({}, "the largest batch that fits into 2.00 GB is 9000"),
        ({"memory_limit_bytes": None}, "the largest batch that fits into its memory is 9000"),
        (
            {"limited_by": "the search would take more than 120 s"},
            "a batch of 9000 fits into 2.00 GB, and a larger one was not tried: the search would take more than 120 s",
        ),
        ({"limited_by": ""}, "a batch of 9000 fits into 2.00 GB, and a larger one was not tried"),
        ({"limited_by": "out of range"}, "a batch of 9000 fits into 2.00 GB, and a larger one failed: out of range"),
    ],
)
def test_the_largest_batch_is_a_sentence(info, says):
    text = " ".join(render([run(found(**info))]).split())
    assert text.endswith(
        f"simple_nn on this CPU: {says}; from batch 512 on, doubling the batch no longer raises throughput by 5%: "
        "use --perf-batch-size=512."
    )


def test_where_no_doubling_was_timed_beyond_the_size_that_is_said():
    text = " ".join(render([run(found(largest_batch=1000))]).split())
    assert text.endswith("is 1000; batch 512 has the highest throughput of the sizes timed: use --perf-batch-size=512.")


def test_each_device_and_mode_has_its_own():
    text = render([run(found(), found("cuda", precision="bf16"))], width=1000)
    assert "simple_nn on this CPU: the" in text and "simple_nn in eager bf16 on cuda: the" in text


def test_of_a_record_without_the_numbers_nothing_is_said():
    assert "fits" not in render([run(found(largest_batch=None))])


def test_it_changes_nothing_of_the_other_tables_and_no_time_of_it_is_compared():
    before = render([CPU_RUN])
    more = run(*CPU_RUN.benchmarks, memory(64), found(), cases=CPU_RUN.cases, **CPU_RUN.perf)
    after = render([more]).splitlines()
    assert [line for line in before.splitlines() if line not in after] == []
    assert medians_of(more)[0].seconds == medians_of(CPU_RUN)[0].seconds
    assert not timed("memory") and not timed("largest_batch")
