"""What must be judged of each kind of device before it is QUALIFIED."""

import json
from importlib import import_module

import pytest

from perf.harness.options import FAULTS
from perf.harness.record.check import Check, CheckVerdict
from perf.harness.verdict.limits import table
from perf.harness.verdict.required import TABLE, Required, not_judged, required_of

WHOLE = ("CPU", "NVIDIA data-centre", "NVIDIA other")  # what another maker's device can do is not known
PARTS = ("matmul", "copies", "replay", "loader", "errors")  # checks of which some metrics are not required


@pytest.mark.parametrize(
    ("device", "model", "kind"),
    [
        ("cpu", "AMD EPYC", "CPU"),
        ("cuda", "NVIDIA A100-SXM4-40GB", "NVIDIA data-centre"),
        ("cuda:3", "NVIDIA H100 80GB HBM3", "NVIDIA data-centre"),
        ("cuda", "NVIDIA H20", "NVIDIA data-centre"),
        ("cuda", "NVIDIA GH200 480GB", "NVIDIA data-centre"),
        ("cuda", "NVIDIA L4", "NVIDIA data-centre"),
        ("cuda", "Tesla T4", "NVIDIA data-centre"),
        ("cuda", "NVIDIA L400", "NVIDIA other"),
        ("cuda", "NVIDIA GeForce RTX 4090", "NVIDIA other"),
        ("cuda", "NVIDIA RTX A2000 Laptop GPU", "NVIDIA other"),
        ("cuda", "AMD Instinct MI300X", "other"),
        ("xpu", "Intel Data Center GPU Max", "other"),
        ("mps", "mps:0", "other"),
    ],
)
def test_each_device_is_of_the_first_kind_that_fits(device, model, kind):
    assert required_of(device, model).kind == kind


def test_every_nvidia_gpu_with_a_datasheet_and_ecc_is_of_a_data_centre():
    kinds = {one["name"]: required_of("cuda", one["name"]).kind for one in table()}
    others = {name for name, kind in kinds.items() if kind != "NVIDIA data-centre"}
    assert others == {"NVIDIA GeForce RTX 4090", "AMD Instinct MI300X"}


def test_what_is_required_are_checks_that_there_are():
    for entry in json.loads(TABLE.read_text())["kinds"]:
        kind = "cpu" if entry["kind"] == "CPU" else "accelerator"
        assert set(entry["checks"]) <= set(FAULTS)
        for name, required in entry["checks"].items():
            marker = getattr(import_module(f"perf.qualification.test_{name}"), f"test_{name}").pytestmark[0]
            measured = marker.args or marker.kwargs.get(kind, ("",))
            assert set(required) <= set(measured)
            assert name in PARTS or entry["kind"] not in WHOLE or set(required) == set(measured)


def check(name, variant, verdict):
    return Check(name, "cpu", CheckVerdict(verdict), variant)


@pytest.mark.parametrize(
    ("checks", "left"),
    [
        ([], ["matmul fp32", "memory"]),
        ([("matmul", "fp32", "PASS"), ("memory", "triad", "PASS")], ["memory copy"]),
        ([("matmul", "fp32", "PASS"), ("memory", "copy", "PASS"), ("memory", "triad", "FAIL")], []),
        ([("matmul", "fp32", "INCONCLUSIVE"), ("memory", "copy", "PASS"), ("memory", "triad", "PASS")], []),
        ([("matmul", "bf16", "PASS"), ("memory", "copy", "PASS"), ("memory", "triad", "PASS")], ["matmul fp32"]),
        ([("matmul", "fp32", "PASS"), ("memory", "copy", "PASS"), ("memory", "triad", "UNJUDGED")], ["memory triad"]),
        ([("matmul", "fp32", "UNSUPPORTED"), ("memory", "copy", "UNJUDGED"), ("memory", "triad", "PASS")],
         ["matmul fp32", "memory copy"]),
        ([("matmul", "fp32", "PASS"), ("memory", "copy", "UNJUDGED"), ("memory", "triad", "UNJUDGED")], ["memory"]),
    ],
)  # fmt: skip
def test_a_check_is_judged_if_all_its_metrics_are(checks, left):
    required = Required("CPU", {"matmul": ["fp32"], "memory": ["copy", "triad"]})
    assert not_judged(required, [check(*one) for one in checks]) == left
