"""The table of what devices cannot exceed: its units, and that published measurements lie within it."""

import types

import pytest

from perf.harness.machine.devices import Device
from perf.harness.record.check import CheckVerdict
from perf.harness.verdict.checks import MetricValue, judge_check, limit_bar
from perf.harness.verdict.limits import (
    CPU_FLOP_PER_CLOCK,
    GPU_FLOP_PER_CLOCK,
    Limit,
    cpu_matmul_limit,
    flop_per_clock,
    gpu_matmul_limit,
    link_limit,
    matmul_limit,
    memory_limit,
    table,
)
from perf.qualification import test_copies, test_matmul, test_memory

A100, H100, H200 = "NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA H200"
# Published measurements of healthy devices: device, dtype, TFLOP/s; then memory, TB/s.
MATMULS = [
    (A100, "bf16", 271), (A100, "fp16", 275), (A100, "tf32", 127), (A100, "fp32", 18.4), (A100, "bf16", 270),
    (H100, "bf16", 794), (H100, "bf16", 730), (H200, "bf16", 788), (H200, "bf16", 769), (H200, "bf16", 798),
]  # fmt: skip
MEMORIES = [(A100, 1.56), (H100, 2.54), (H200, 4.3), (H200, 3.11)]


@pytest.mark.parametrize(("device", "dtype", "tflop_per_s"), MATMULS)
def test_a_published_product_is_within_the_peak_and_not_far_below(device, dtype, tflop_per_s):
    assert 0.3 <= tflop_per_s * 1e12 / matmul_limit(device, dtype).value <= 1.0


@pytest.mark.parametrize(("device", "tb_per_s"), MEMORIES)
def test_a_published_bandwidth_is_within_the_limit_and_not_far_below(device, tb_per_s):
    assert 0.3 <= tb_per_s * 1e12 / memory_limit(device).value <= 1.0


def test_every_figure_is_in_the_unit_that_it_should_be():
    """A slip of a thousand stands out: no device has 1 TFLOP/s or 100, nor 0.1 TB/s or 20."""
    for entry in table():
        peaks = entry["flop_per_s"]
        assert set(peaks) == {"fp32", "tf32", "bf16", "fp16"}, entry["name"]
        assert all(10e12 < peak < 5e15 for peak in peaks.values()), entry["name"]
        assert peaks["fp32"] <= peaks["tf32"] < peaks["bf16"] == peaks["fp16"], entry["name"]
        assert 0.2e12 < entry["bytes_per_s"] < 15e12, entry["name"]
        assert entry["source"]
        assert entry.get("certain", True) or 1e9 < entry["clock_hz"] < 4e9, entry["name"]


def test_each_device_stands_in_the_table_once():
    names = [entry["name"] for entry in table()]
    assert len(names) == len(set(names))
    for wanted in (
        "A100-SXM4-40GB",
        "A100-SXM4-80GB",
        "H100 80GB HBM3",
        "H100 PCIe",
        "H200",
        "H20",
        "B200",
        "L4",
        "L40S",
    ):
        assert f"NVIDIA {wanted}" in names
    assert {"NVIDIA A100 80GB PCIe", "NVIDIA GeForce RTX 4090", "AMD Instinct MI300X"} <= set(names)


@pytest.mark.parametrize("name", ["NVIDIA H100 NVL", "NVIDIA GB200", "NVIDIA L40", "Tesla T4", "cpu", ""])
def test_of_another_device_nothing_is_known(name):
    """Another variant of a device has other limits: none is better than the wrong one."""
    assert matmul_limit(name, "bf16") is None
    assert memory_limit(name) is None


@pytest.mark.parametrize("name", ["NVIDIA L4", "NVIDIA L40S", "NVIDIA GeForce RTX 4090"])
def test_a_gpu_that_boosts_above_its_datasheet_has_the_ceiling_of_its_clock_and_a_bar_of_its_own(name):
    """Healthy ones reach 50 to 70% of their datasheets, or exceed them."""
    found = matmul_limit(name, "bf16")
    assert (found.certain, found.share, found.ceiling) == (False, 0.45, None)
    assert matmul_limit(name, "bf16", 3.105e9).ceiling / found.value == pytest.approx(
        {"NVIDIA L4": 3.105 / 2.04}.get(name, 3.105 / 2.52)
    )
    assert matmul_limit(H100, "bf16", 3.105e9).ceiling is None  # its datasheet is the ceiling
    assert (matmul_limit(H100, "bf16").certain, matmul_limit(H100, "bf16").share) == (True, None)


@pytest.mark.parametrize(("peak", "asked"), [(Limit(1e12, "", share=0.45), 0.45), (Limit(1e12, ""), 0.6), (None, 0.6)])
def test_a_product_is_held_against_the_share_of_its_own_kind(peak, asked):
    shares = []
    check = types.SimpleNamespace(
        device=Device("cuda"), variant="bf16", fault="", peak=lambda dtype: peak, clock=lambda dtype: None,
        rate=lambda measure, unit, share, limit, left: shares.append(share),
    )  # fmt: skip
    test_matmul.test_matmul(check)
    assert shares == [asked]


def test_a_dtype_that_the_table_lacks_has_no_limit():
    assert matmul_limit(H100, "int4") is None


@pytest.mark.parametrize(
    ("device", "multiprocessors", "capability", "clock_hz"),
    [(A100, 108, "8.0", 1.41e9), (H100, 132, "9.0", 1.83e9), (H200, 132, "9.0", 1.83e9),
     ("NVIDIA B200", 148, "10.0", 1.85e9)],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["tf32", "bf16", "fp16"])
def test_a_peak_computed_from_the_clock_agrees_with_the_datasheet(device, multiprocessors, capability, clock_hz, dtype):
    """The makers' figures are of these clocks."""
    computed = gpu_matmul_limit(multiprocessors, capability, clock_hz, dtype)
    assert computed.value == pytest.approx(
        matmul_limit(device, dtype).value, rel=0.005 if device != "NVIDIA B200" else 0.03
    )
    per_clock = GPU_FLOP_PER_CLOCK[capability][dtype]
    assert computed.source == f"{multiprocessors} multiprocessors × {per_clock} FLOP × {clock_hz / 1e9:.2f} GHz"


@pytest.mark.parametrize(
    ("multiprocessors", "capability", "clock_hz", "tflop_per_s"),
    [(108, "8.0", 1.41e9, 19.5), (132, "9.0", 1.98e9, 67), (148, "10.0", 1.965e9, 75)],
)
def test_a_peak_of_float32_agrees_with_what_is_published(multiprocessors, capability, clock_hz, tflop_per_s):
    """Without tensor cores: cores of a multiprocessor × 2. The boost clocks are those of the datasheets."""
    computed = gpu_matmul_limit(multiprocessors, capability, clock_hz, "fp32")
    assert computed.value == pytest.approx(tflop_per_s * 1e12, rel=0.008)


@pytest.mark.parametrize(
    ("capability", "fp32_cores", "products"), [("8.0", 64, 4 * 256), ("9.0", 128, 4 * 512), ("10.0", 128, 4 * 1024)]
)
def test_a_multiprocessor_has_the_cores_and_tensor_cores_of_its_architecture(capability, fp32_cores, products):
    """Float32 cores, and multiply-adds of 16 bits per clock in its 4 tensor cores. Source: NVIDIA's whitepapers."""
    assert GPU_FLOP_PER_CLOCK[capability] == {
        "fp32": 2 * fp32_cores, "tf32": products, "bf16": 2 * products, "fp16": 2 * products,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("generation", "transfers_per_s", "encoding"),
    [(1, 2.5e9, 8 / 10), (2, 5e9, 8 / 10), (3, 8e9, 128 / 130), (4, 16e9, 128 / 130), (5, 32e9, 128 / 130),
     (6, 64e9, 242 / 256)],
)  # fmt: skip
def test_a_link_has_the_rate_of_its_generation_without_the_encoding(generation, transfers_per_s, encoding):
    assert link_limit(generation, 1).value == pytest.approx(transfers_per_s * encoding / 8, rel=1e-3)


def test_of_an_unknown_architecture_no_peak_is_computed():
    assert gpu_matmul_limit(100, "99.0", 1e9, "bf16") is None
    assert gpu_matmul_limit(100, "9.0", 1e9, "int4") is None


@pytest.mark.parametrize(("generation", "gb_per_s"), [(4, 25.9), (5, 52.8), (5, 48.0)])
def test_a_published_copy_is_within_its_link_and_not_far_below(generation, gb_per_s):
    assert 0.3 <= gb_per_s * 1e9 / link_limit(generation, 16).value <= 1.0


def test_a_link_has_half_the_speed_with_half_the_lanes_or_a_generation_less():
    assert link_limit(5, 8).value == pytest.approx(link_limit(4, 16).value, rel=0.01)
    assert link_limit(5, 8).source == "PCIe 5 ×8 as negotiated under load"
    assert link_limit(99, 16) is None


def test_a_cpus_limit_is_its_cores_vector_units_and_clock():
    limit = cpu_matmul_limit(2, "AVX2", 2.5e9, "fp32", MILAN)
    assert limit.value == 2 * 32 * 2.5e9
    assert limit.source == "2 cores × 32 FLOP (AVX2) × 2.50 GHz as reported"
    assert not limit.certain and limit.ceiling == limit.value
    assert cpu_matmul_limit(2, "AVX2", 2.5e9, "fp32", MILAN, 3.5e9).ceiling == 2 * 32 * 3.5e9  # the clock may rise


MILAN = ("AuthenticAMD", 25, 0x01)  # EPYC 7763 (Zen 3)


# CPUs of Intel's family 6 by model, as their maker numbers them.
TWO_UNITS_OF_256 = {
    0x3C: "Haswell", 0x3D: "Broadwell", 0x3F: "Haswell, Xeon E5 v3", 0x45: "Haswell, notebooks",
    0x46: "Haswell, Iris Pro", 0x47: "Broadwell, Iris Pro", 0x4E: "Skylake, notebooks", 0x4F: "Broadwell, Xeon E5 v4",
    0x55: "Skylake and Cascade Lake, Xeon", 0x56: "Broadwell, Xeon D", 0x5E: "Skylake", 0x8E: "Kaby Lake, notebooks",
    0x9E: "Kaby Lake and Coffee Lake", 0xA5: "Comet Lake", 0xA6: "Comet Lake, notebooks",
}  # fmt: skip
TWO_UNITS_OF_512 = {
    0x6A: "Ice Lake, Xeon", 0x6C: "Ice Lake, Xeon D", 0x8F: "Sapphire Rapids", 0xAD: "Granite Rapids",
    0xAE: "Granite Rapids, Xeon D", 0xCF: "Emerald Rapids",
}  # fmt: skip
ONE_UNIT_OF_512 = {
    0x7D: "Ice Lake, desktop", 0x7E: "Ice Lake, notebooks", 0x8C: "Tiger Lake", 0x8D: "Tiger Lake-H",
    0xA7: "Rocket Lake",
}  # fmt: skip


def test_every_model_of_intel_has_the_units_of_its_cores_and_any_other_is_unknown():
    for model in range(0x100):
        kind = ("GenuineIntel", 6, model)
        wide = 64 if model in TWO_UNITS_OF_512 else 32 if model in ONE_UNIT_OF_512 else None
        assert flop_per_clock("AVX512", kind) == wide, hex(model)
        assert flop_per_clock("AVX2", kind) == (32 if wide or model in TWO_UNITS_OF_256 else None), hex(model)
    assert flop_per_clock("AVX2", ("GenuineIntel", 7, 0x3C)) is None


def test_every_model_of_amds_families_has_the_units_of_its_cores():
    """Zen and Zen+ are family 17h below model 30h. Of Zen 5, those of servers and desktops have whole units."""
    for model in range(0x100):
        known = {
            family: [flop_per_clock(capability, ("AuthenticAMD", family, model)) for capability in ("AVX2", "AVX512")]
            for family in (0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B)
        }
        whole = model in (0x00, 0x01, 0x02, 0x10, 0x11, 0x44)
        assert known == {
            0x16: [None, None], 0x17: [16 if model < 0x30 else 32, None], 0x18: [None, None],
            0x19: [32, 32], 0x1A: [32, 64 if whole else None], 0x1B: [None, None],
        }, hex(model)  # fmt: skip
        hygon = flop_per_clock("AVX2", ("HygonGenuine", 0x18, model))
        assert hygon == (16 if model < 4 else None), hex(model)
    for family in (0x17, 0x19, 0x1A):  # a model is one byte
        assert flop_per_clock("AVX2", ("AuthenticAMD", family, 0x100)) is None
    assert flop_per_clock("AVX512", ("AuthenticAMD", 0x19, 0x100)) is None


@pytest.mark.parametrize(
    ("capability", "kind", "per_clock"),
    [
        ("AVX512", ("AuthenticAMD", 25, 0x11), 32),  # EPYC 9654 (Zen 4)
        ("AVX512", ("AuthenticAMD", 26, 0x02), 64),  # EPYC 9755 (Zen 5)
        ("AVX512", ("AuthenticAMD", 26, 0x24), None),  # Zen 5 of notebooks: not in the table
        ("AVX512", ("GenuineIntel", 6, 143), 64),  # Xeon Platinum 8480 (Sapphire Rapids)
        ("AVX512", ("GenuineIntel", 6, 140), 32),  # Core i7-1185G7 (Tiger Lake)
        ("AVX512", ("GenuineIntel", 6, 85), None),  # Skylake-SP has one unit or two
        ("AVX512", None, None),
        ("AVX2", ("AuthenticAMD", 23, 0x01), 16),  # EPYC 7601 (Zen 1): units of 128 bits
        ("AVX2", ("HygonGenuine", 24, 0x01), 16),  # Dhyana, the same cores
        ("AVX2", ("AuthenticAMD", 23, 0x31), 32),  # EPYC 7742 (Zen 2)
        ("AVX2", MILAN, 32),
        ("AVX2", ("GenuineIntel", 6, 79), 32),  # Xeon E5-2690 v4 (Broadwell)
        ("AVX2", ("GenuineIntel", 6, 151), None),  # Core i9-12900K (Alder Lake) has cores of two kinds
        ("AVX2", ("GenuineIntel", 6, 175), None),  # Xeon 6700E (Sierra Forest) has small cores only
        ("AVX2", None, None),
    ],
)
def test_the_units_of_a_core_are_those_of_the_model_or_unknown(capability, kind, per_clock):
    limit = cpu_matmul_limit(2, capability, 2.5e9, "fp32", kind)
    assert (limit and limit.value) == (per_clock and 2 * per_clock * 2.5e9)


# What two cores of virtual machines with AMD EPYC reached in the check of matmul, and the clock that they reported.
@pytest.mark.parametrize(
    ("capability", "kind", "gflop_per_s", "clock_hz"),
    [("AVX2", MILAN, 127, 2.45e9), ("AVX512", ("AuthenticAMD", 26, 2), 215, 2.6e9)],
)
def test_what_a_cpu_was_measured_at_is_a_share_of_its_limit_that_is_possible(capability, kind, gflop_per_s, clock_hz):
    assert 0.3 <= gflop_per_s * 1e9 / cpu_matmul_limit(2, capability, clock_hz, "fp32", kind).value <= 1.0


@pytest.mark.parametrize(
    ("capability", "clock_hz", "dtype"), [("DEFAULT", 2.5e9, "fp32"), ("AVX2", None, "fp32"), ("AVX2", 2.5e9, "bf16")]
)
def test_what_is_not_known_of_a_cpu_is_no_limit(capability, clock_hz, dtype):
    assert cpu_matmul_limit(2, capability, clock_hz, dtype, MILAN) is None


def known_limits():
    """Each limit that is known, with the share of it that a healthy device reaches, and the unit."""
    for entry in table():
        name = entry["name"]
        for dtype in entry["flop_per_s"]:
            limit = matmul_limit(name, dtype, 3e9)
            yield pytest.param(limit, limit.share or test_matmul.SHARE, 1e12, 1e16, id=f"{name} {dtype}")
        yield pytest.param(memory_limit(name), test_memory.SHARE, 1e11, 1e14, id=f"{name} memory")
    for capability, maker, family, models, _ in CPU_FLOP_PER_CLOCK:
        for model in models if isinstance(models, tuple) else (models[0], models[-1]):
            limit = cpu_matmul_limit(64, capability, 2e9, "fp32", (maker, family, model), None, 2.5e9)
            yield pytest.param(limit, test_matmul.CPU_SHARE, 1e12, 1e14, id=f"{capability} {maker} {family} {model}")
    for generation in range(3, 7):
        yield pytest.param(link_limit(generation, 16), test_copies.SHARE, 1e10, 2e11, id=f"PCIe {generation}")


@pytest.mark.parametrize(("limit", "share", "least", "most"), list(known_limits()))
def test_from_a_third_of_each_known_limit_to_all_of_it_the_bar_is_where_it_should_be(limit, share, least, most):
    assert least < limit.value < most  # the unit is that of the metric, without a prefix
    bar = limit_bar(limit, share)
    for percent in range(30, 101):
        one = MetricValue(percent / 100 * limit.value, percent / 100 * limit.value, percent / 100 * limit.value, 0.0)
        verdict = judge_check(one, bar, one).verdict
        assert verdict is (CheckVerdict.PASS if percent >= round(100 * share) else CheckVerdict.FAIL), percent
    if bar.ceiling is not None:
        above = MetricValue(1.01 * bar.ceiling, 1.01 * bar.ceiling, 1.01 * bar.ceiling, 0.0)
        assert judge_check(above, bar).verdict is CheckVerdict.INCONCLUSIVE
