"""Runs for the report: benchmarks of chosen times, and one whole run of a machine with a CPU."""

from perf.harness.record import Benchmark, Case, Run

# Samples whose median is 1 and whose interval is narrow: ×m, they are a benchmark of m seconds.
STEADY = (0.99, 1.01, 1.0, 0.99, 1.01, 1.0, 1.0)


def benchmark(kind, device="cpu", batch=64, pipeline=None, seconds=1.0, samples=STEADY, **info):
    mode = [value for value in (info.get("execution"), info.get("precision")) if value not in ("eager", "fp32")]
    name = "-".join(str(part) for part in (device, f"bs{batch}", pipeline, *mode) if part)
    return Benchmark(
        name=f"test_{kind}[{name}]",
        fullname=f"perf/test_{kind}.py::test_{kind}[{name}]",
        group=kind,
        seconds=tuple(seconds * sample for sample in samples),
        iterations=1,
        stats={},
        info={
            "benchmark": kind,
            "model": "simple_nn",
            "data": "mnist",
            "device": device,
            "batch_size": batch,
            "pipeline": pipeline,
            "precision": "fp32",
            "profile": "standard",
            "samples_per_iteration": batch,
        }
        | ({"step_losses": {"1": 2.3}} if kind == "training_step" else {})
        | info,
    )


def foreign(name="test_sum", median=2e-6, **stats):
    return Benchmark(name, name, None, (), 1, {"median": median, **stats})


def run(*benchmarks, source="cpu.json", cases=(), complete=True, **perf):
    return Run(source, "", tuple(benchmarks), tuple(cases), complete, {}, perf)


def steps(times, device="cpu", **info):
    """Training steps in modes; `times` has the seconds of each (batch, execution, precision)."""
    parity = {"parity_steps": 20, "parity_difference": 0.000003}
    return [
        benchmark("training_step", device, batch, seconds=seconds, execution=execution, precision=precision,
                  **({} if (execution, precision) == ("eager", "fp32") else parity) | info)
        for (batch, execution, precision), seconds in times.items()
    ]  # fmt: skip


MACHINE = {
    "profile": "standard",
    "host_name": "box",
    "settings": {"seed": 0, "rounds": None, "profile": "standard"},
    "data": {"name": "mnist", "digest": "d", "train_samples": 60000, "test_samples": 10000, "note": "checked"},
    "environment": {
        "cpu_model": "AMD EPYC",
        "cpu_cores": 2,
        "cpu_capability": "AVX2",
        "memory_bytes": 8 * 2**30,
        "threads": 1,
        "torch": "2.15.0",
        "cuda": "13.0",
        "python": "3.11.7",
    },
    "devices": {"cpu": {"name": "CPU"}, "cuda": {"absent": "no NVIDIA driver found"}},
}
GPU = {"name": "H100", "multiprocessors": 132, "memory_bytes": 79.2 * 2**30, "driver": "580.65"}

CPU_RUN = run(
    benchmark("training_step", batch=64, seconds=800e-6, overhead_s=600e-6, parameters=101770, flop_per_sample=6.1e5,
              cold_start_s=0.05, peak_bytes=500 * 2**20),
    benchmark("training_step", batch=512, seconds=3.2e-3, overhead_s=600e-6, peak_bytes=600 * 2**20),
    benchmark("input_pipeline", pipeline="dataloader", seconds=64 / 7000),
    benchmark("epoch", pipeline="resident", seconds=0.9, samples_per_iteration=60000,
              phases_s={"data_wait": 0.05, "copy": 0.0}, phases_wall_s=1.0),
    benchmark("epoch", pipeline="dataloader", seconds=9.0, samples_per_iteration=60000,
              phases_s={"data_wait": 8.0, "copy": 0.5}, phases_wall_s=10.0),
    benchmark("training_run", pipeline="resident", seconds=4.5, samples_per_iteration=300000, epochs=5,
              accuracy=0.9234, loss_last=0.2711),
    cases=[Case("a", "measured"), Case("x::b[cuda]", "skipped", "cuda: no NVIDIA driver found")],
    **MACHINE,
)  # fmt: skip
