"""How fast do all devices of a kind train at the same time, compared with each alone?"""

from dataclasses import asdict

from perf.harness.measurement.bench import Bench
from perf.harness.measurement.together import Together


def test_together(bench: Bench, together: Together) -> None:
    """The timed rounds are visits of all devices at once. Power and clocks are those of this time."""
    work = bench.workload
    bench.measurement.cold_start(together.prepare, first=lambda _: together.at_once())
    found = together.compare()

    bench.measurement.run(together.at_once)
    together.finish()
    bench.record_rate(together.steps_at_once * work.batch_size)
    rates = {key: {name: work.batch_size / step_s for name, step_s in times.items()}
             for key, times in asdict(found).items()}  # fmt: skip
    bench.keep(device=work.device.torch_device.type, alone_rates=rates["alone_s"], together_rates=rates["together_s"])
    bench.keep_telemetry(together.devices)
