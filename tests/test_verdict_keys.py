"""A reference judges a metric only where all that the metric depends on is equal."""

import copy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.options import FAULTS
from perf.harness.record.check import Check, CheckVerdict
from perf.harness.record.spec import Reference, Spec
from perf.harness.verdict.by_spec import bar_of, golden, too_wide
from perf.harness.verdict.checks import Bar
from perf.harness.verdict.keys import DEPENDS_ON, key_of, keys_apart, model_of, reference_of

PERF = {
    "environment": {
        "cpu_model": "CPU 1", "cpu_cores": 8, "physical_cores": 4, "cpu_capability": "AVX512", "threads": 4,
        "memory_bytes": 64 * 2**30, "torch": "2.11.0",
    },
    "devices": {"cpu": {"name": "CPU"}, "cuda": {"name": "NVIDIA H200", "driver": "580", "memory_bytes": 139 * 2**30}},
    "fingerprint": {"model": "simple_nn", "data": "digits"},
    "settings": {"precisions": "fp32"},
    "disk": "ext4 on Disk 1",
}  # fmt: skip
# Where a record has each of the things that metrics depend on, for the CPU and for a GPU.
PLACES = {
    "device": {"cpu": ("environment", "cpu_model"), "cuda": ("devices", "cuda", "name")},
    "cores": {"cpu": ("environment", "physical_cores")},
    "threads": {"cpu": ("environment", "threads")},
    "instruction set": {"cpu": ("environment", "cpu_capability")},
    "torch": dict.fromkeys(("cpu", "cuda"), ("environment", "torch")),
    "driver": {"cuda": ("devices", "cuda", "driver")},
    "memory": {"cpu": ("environment", "memory_bytes"), "cuda": ("devices", "cuda", "memory_bytes")},
    "host CPU": dict.fromkeys(("cpu", "cuda"), ("environment", "cpu_model")),
    "host cores": dict.fromkeys(("cpu", "cuda"), ("environment", "cpu_cores")),
    "task": dict.fromkeys(("cpu", "cuda"), ("fingerprint", "model")),
    "data": dict.fromkeys(("cpu", "cuda"), ("fingerprint", "data")),
    "precision": dict.fromkeys(("cpu", "cuda"), ("settings", "precisions")),
    "disk": {"cpu": ("disk",)},
}


def spec_of(check, key):
    return Spec("spec.json", (Reference(check, "fp32", "FLOP/s", 100.0, 0.01, 5, 5, key),))


def changed(place):
    perf = copy.deepcopy(PERF)
    inside = perf
    for name in place[:-1]:
        inside = inside[name]
    value = inside[place[-1]]
    inside[place[-1]] = value * 2 if isinstance(value, int) else f"other {value}"
    return perf


def test_a_cpu_is_known_by_its_kind_too():
    """AMD calls three generations "AMD EPYC" in virtual machines."""
    old, new = ({**PERF, "environment": PERF["environment"] | {"cpu_kind": kind}} for kind in ("25, 1", "26, 2"))
    for check, device in (("matmul", "cpu"), ("launch", "cuda")):
        spec = spec_of(check, key_of(check, device, old))
        assert isinstance(bar_of(spec, check, "fp32", "FLOP/s", key_of(check, device, old)), Bar)
        differs = reference_of(spec, check, "fp32", key_of(check, device, new))
        assert (
            differs.endswith("CPU: CPU 1 (25, 1) → CPU 1 (26, 2)") or "device: CPU 1 (25, 1) → CPU 1 (26, 2)" in differs
        )


def test_the_metrics_that_depend_on_something_are_those_of_checks():
    assert set(DEPENDS_ON) <= set(FAULTS)
    assert {name for names in DEPENDS_ON.values() for name in names} == set(PLACES)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("check", DEPENDS_ON)
def test_a_record_that_differs_in_one_of_them_is_not_judged_and_the_difference_is_said(check, device):
    spec = spec_of(check, key_of(check, device, PERF))
    assert isinstance(bar_of(spec, check, "fp32", "FLOP/s", key_of(check, device, PERF)), Bar)
    for name, places in PLACES.items():
        if device not in places:
            continue
        other = key_of(check, device, changed(places[device]))
        found = reference_of(spec, check, "fp32", other)
        if name in DEPENDS_ON[check]:
            assert found.startswith("not comparable with spec.json: ") and f"{name}: " in found and " → " in found
        elif places[device] not in [PLACES[one].get(device) for one in DEPENDS_ON[check]]:
            assert isinstance(found, Reference)


SECTIONS = ["environment", "devices", "fingerprint", "settings", "cpu", "disk"]


@given(st.dictionaries(st.sampled_from(SECTIONS), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda inside: st.lists(inside) | st.dictionaries(
        st.sampled_from(["cpu", "cuda", "cpu_model", "memory_bytes", "name", "model"]), inside))))  # fmt: skip
def test_whatever_a_record_holds_a_key_has_only_values(perf):
    for check in DEPENDS_ON:
        for device in ("cpu", "cuda"):
            assert all(isinstance(value, str | int | float) for value in key_of(check, device, perf).values())
            assert isinstance(model_of(device, perf), str)


FIELDS = st.dictionaries(st.sampled_from(sorted(PLACES)), st.one_of(st.integers(), st.text(), st.none()))


@given(FIELDS, FIELDS)
def test_only_equal_keys_are_judged(there, here):
    found = reference_of(spec_of("matmul", there), "matmul", "fp32", here)
    assert isinstance(found, Reference) == (there == here)


def test_the_reference_that_differs_least_is_the_one_that_is_named():
    far = Reference("matmul", "fp32", "FLOP/s", 1.0, 0.0, 3, 3, {"device": "A", "threads": 1})
    near = Reference("matmul", "fp32", "FLOP/s", 1.0, 0.0, 3, 3, {"device": "B", "threads": 1})
    said = reference_of(Spec("s.json", (far, near)), "matmul", "fp32", {"device": "B", "threads": 2})
    assert said == "not comparable with s.json: threads: 1 → 2"
    assert reference_of(Spec("s.json", (far,)), "matmul", "bf16", far.key) == "s.json has no reference for it"


def test_a_reference_in_another_unit_is_of_another_metric():
    assert bar_of(spec_of("matmul", {}), "matmul", "fp32", "B/s", {}) == "the unit in spec.json is FLOP/s, not B/s"


def test_machines_that_were_bought_alike_have_memories_of_one_size():
    sizes = [250.1, 251.6, 249.9, 270.0]
    keys = [key_of("memory", "cpu", {"environment": {"memory_bytes": int(size * 2**30)}}) for size in sizes]
    assert [one["memory"] for one in keys] == ["about 250 GiB"] * 3 + ["about 270 GiB"]


def test_a_digest_of_another_set_up_is_not_compared_and_the_difference_is_said():
    there, here = (
        "net on digits, CPU 1 (AMD, family 25, model 1), 2 threads, AVX512, torch 2.11",
        "net on digits, CPU 1 (AMD, family 26, model 2), 4 threads, AVX2, torch 2.11",
    )
    spec = Spec("s.json", (), {"another": "0a", there: "0f"})
    kinds = [f"CPU 1 (AMD, {kind})" for kind in ("family 25, model 1", "family 26, model 2")]
    said = f"not comparable with s.json: {kinds[0]}, 2 threads, AVX512 → {kinds[1]}, 4 threads, AVX2"
    for key, digest, by, verdict, reason in (
        (there, "0f", spec, "PASS", ""),
        (there, "0e", spec, "FAIL", "0e, not 0f"),
        (here, "0f", spec, "UNJUDGED", said),
        (here, "0f", Spec("s.json", ()), "UNJUDGED", "s.json has no digest"),
        (here, "0f", None, "UNJUDGED", "no digest of this training is known; give a reference with --perf-spec=FILE"),
    ):
        found = golden(Check("replay", "cpu", CheckVerdict.INCONCLUSIVE, "golden"), digest, key, by)
        assert (found.verdict, found.reason, found.details["digest"]) == (verdict, reason, digest)


def test_several_keys_are_told_apart_by_the_fields_that_differ():
    keys = [{"device": "CPU 1", "torch": "2.11"}, {"device": "CPU 1", "torch": "2.13"}, {"device": "CPU 1"}]
    assert keys_apart(keys) == ["torch 2.11", "torch 2.13", "torch unknown"]
    assert keys_apart(keys[:1]) == [""] and keys_apart([]) == []


def test_the_name_of_a_device_is_that_of_its_model():
    assert (model_of("cpu", PERF), model_of("cuda", PERF)) == ("CPU 1", "NVIDIA H200")


def test_what_a_device_does_not_depend_on_is_not_called_unknown():
    gpu, cpu = {"device": "H200", "driver": "580"}, {"device": "CPU 1", "cores": 2}
    assert keys_apart([gpu, cpu]) == ["device H200, driver 580", "device CPU 1, cores 2"]
    assert keys_apart([{"device": "CPU 1"}, cpu]) == ["cores unknown", "cores 2"]


def test_a_bar_that_is_far_beyond_all_use_has_no_number():
    times = Reference("loader", "stall", "s", 1e-4, 2.4, 3, 3, {})
    assert too_wide(times) == "spread 240%"
    assert too_wide(replace(times, spread=0.16)).startswith("spread 16%, bar at ")
