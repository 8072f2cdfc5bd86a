"""`python -m perf`: exit codes, one line for what is wrong, and files that are whole or not there."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perf.__main__ import main
from perf.harness.record import RecordError
from perf.harness.record.write import write_text

ROOT = Path(__file__).resolve().parent.parent


def entry(kind, device, pipeline, seconds, **info):
    return {
        "name": f"test_{kind}[{device}-bs64]",
        "fullname": f"perf/test_{kind}.py::test_{kind}[{device}-bs64]",
        "group": kind,
        "extra_info": {"benchmark": kind, "model": "simple_nn", "data": "mnist", "device": device, "batch_size": 64,
                       "pipeline": pipeline, "precision": "fp32", "profile": "standard", "timing": "latency",
                       "samples_per_iteration": 64, "samples_per_s": 64 / seconds, "peak_bytes": 10**8,
                       "cold_start_s": 0.1, **info},
        "stats": {"data": [seconds, 1.1 * seconds, 1.2 * seconds], "median": 1.1 * seconds, "min": seconds,
                  "max": 1.2 * seconds, "mean": 1.1 * seconds, "q1": 1.05 * seconds, "q3": 1.15 * seconds,
                  "rounds": 3, "iterations": 1},
    }  # fmt: skip


PHASES = {"phases_s": {"data_wait": 0.6, "copy": 0.1, "forward": 0.1}, "phases_wall_s": 0.9}
GOOD = {
    "datetime": "2026-11-23T10:48:00+00:00",
    "version": "5.3.1",
    "machine_info": {"node": "box", "cpu": {"brand_raw": "EPYC", "count": 2}},
    "benchmarks": [
        entry("training_step", "cpu", None, 0.001, overhead_s=0.0004, parameters=101770, flop_per_sample=610000),
        entry("training_step", "cuda", None, 0.0002, enqueue_s=0.0002),
        entry("epoch", "cpu", "dataloader", 1.0, **PHASES),
        entry("epoch", "cpu", "resident", 0.1, **PHASES),
        entry("training_run", "cpu", "resident", 0.5, epochs=5, accuracy=0.92, losses={"1": 0.5}, loss_last=0.3),
        {"name": "test_foreign", "stats": {"median": 1e-6, "rounds": 9}, "extra_info": {}},
    ],
    "commit_info": {"id": "0123456789abcdef", "dirty": False},
    "perf": {
        "schema_version": 1,
        "complete": True,
        "unfit": [],
        "baseline": {
            "name": "default",
            "accepted": "2026-11-23T10:48:00+00:00",
            "runs": [
                {
                    "source": "0001_a.json",
                    "datetime": "2026-11-23",
                    "commit": "0123456789abcdef",
                    "medians": {"perf/test_epoch.py::test_epoch[cpu-bs64]": 0.5, "test_foreign": 1e-6},
                }
            ],
        },
        "fingerprint": {"cpu_model": "EPYC", "threads": 2},
        "fingerprint_id": "standard-1",
        "host_name": "box",
        "profile": "standard",
        "settings": {"seed": 0},
        "data": {"name": "mnist", "digest": "d", "train_samples": 60000, "test_samples": 10000, "note": "checked"},
        "environment": {"cpu_model": "EPYC", "cpu_cores": 2, "memory_bytes": 2**33, "torch": "2.15.0", "threads": 2},
        "devices": {"cpu": {"name": "CPU"}, "cuda": {"name": "H100", "multiprocessors": 132, "memory_bytes": 2**36}},
        "cases": [{"name": "a", "outcome": "measured"}, {"name": "b", "outcome": "skipped", "reason": "why"}],
    },
}


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.json"
    path.write_text(json.dumps(GOOD))
    return path


def run(*arguments, **options):
    """`python -m perf` in a process of its own."""
    command = [sys.executable, "-m", "perf", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, **options)


def in_utf8(**variables):
    return {**os.environ, "PYTHONIOENCODING": "utf-8", **variables}


# In a process


def test_a_report_is_printed_without_torch_and_pytest(good):
    program = (
        "import sys; sys.argv[1:] = ['report', sys.argv[1]]; from perf.__main__ import main; code = main();"
        "loaded = {'torch', 'pytest'} & set(sys.modules); sys.exit(f'{code} {loaded}' if code or loaded else 0)"
    )
    command = [sys.executable, "-c", program, str(good)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=in_utf8())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Stepwatch\n\ncpu       EPYC, 2 cores, 8.00 GiB\n")
    assert "Training step: cuda is faster than cpu at batch 64, by 5.00×.\n" in done.stdout


def test_the_module_runs_as_a_command_and_returns_its_exit_code(good, tmp_path):
    assert run("report", good, "--format", "json").returncode == 0
    missing = run("report", tmp_path / "none.json")
    assert missing.returncode == 4 and missing.stdout == ""
    assert missing.stderr == f"python -m perf: {tmp_path}/none.json: cannot be read: No such file or directory\n"


def test_a_terminal_that_knows_only_ascii_gets_a_report_all_the_same(good):
    done = run("report", good, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.isascii() and "5.00x" in done.stdout and "?" not in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full is a Linux device")
def test_an_output_that_is_full_is_one_line(good):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "perf", "report", str(good)]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = "python -m perf: standard output: cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (4, said)


QUALIFICATION = ROOT / "tests" / "records" / "qualification.json"


def test_a_file_that_cannot_be_read_does_not_cost_the_report_of_a_fleet(good, tmp_path, capsys):
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    assert main(["report", str(bad), str(QUALIFICATION)]) == 4
    told = capsys.readouterr()
    assert "QUALIFIED: 1 PASS · 6 UNSUPPORTED\n" in told.out
    assert told.err.startswith(f"python -m perf: not in this report: {bad}: line 1, ") and told.err.count("\n") == 1
    for others in ([good], [tmp_path / "none.json"], [good, QUALIFICATION]):
        assert main(["report", str(bad), *map(str, others)]) == 4
        told = capsys.readouterr()
        assert told.out == "" and told.err.startswith(f"python -m perf: {bad}: line 1, ")


def test_a_brief_report_has_the_table_of_machines_only(good, tmp_path, capsys):
    other = tmp_path / "other.json"
    other.write_bytes(QUALIFICATION.read_bytes())
    assert main(["report", str(QUALIFICATION), str(other), "--brief"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^B +vm +PARTLY QUALIFIED .* other\.json$", told, re.MULTILINE)
    assert "Checks" not in told and told.count("\n") < 15
    for arguments, says in (
        ([str(other)], "--brief: needs two qualifications or more"),
        ([str(other), str(good)], f"{good}: is no qualification, and --brief prints only those"),
        ([str(other), str(QUALIFICATION), "--reference=cpu"], "--reference: is of speedups, and --brief prints none"),
        ([str(other), str(QUALIFICATION), "--format=csv"], "--brief: is for people: leave it out with --format=csv"),
    ):
        assert main(["report", *arguments, "--brief"]) == 4
        assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("machines", "arguments", "brief", "says"),
    [
        (10, [], False, ""), (11, [], True, "only the table, of more than 10 machines; --no-brief prints all"),
        (11, ["--no-brief"], False, ""), (11, ["--brief"], True, ""), (11, ["--format=csv"], False, ""),
    ],
)  # fmt: skip
def test_a_report_of_many_machines_is_brief(tmp_path, capsys, machines, arguments, brief, says):
    records = [tmp_path / f"{number}.json" for number in range(machines)]
    for path in records:
        path.write_bytes(QUALIFICATION.read_bytes())
    assert main(["report", *map(str, records), *arguments]) == 0
    told = capsys.readouterr()
    assert (told.out.count("\n") < 40) == brief
    assert says in told.err and bool(says) == bool(told.err)


def test_a_spec_is_no_run_and_is_told_where_it_belongs(tmp_path, capsys):
    spec = tmp_path / "spec.json"
    spec.write_text('{"stepwatch_spec": 2, "references": []}')
    assert main(["report", str(spec)]) == 4
    assert "spec.json: a spec, which judges runs: give it with --spec" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="pipes break in this way on Unix")
def test_a_reader_that_has_had_enough_is_no_error(good):
    copies = [good.with_name(f"{number}.json") for number in range(30)]  # more than a pipe holds
    for one in copies:
        one.write_bytes(good.read_bytes())
    files = " ".join(f"'{one}'" for one in copies)
    command = f"'{sys.executable}' -m perf report {files} --format json | head -c 1; echo ${{PIPESTATUS[0]}}"
    # Unbuffered, Python does not notice that only a part of a text was taken.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, env=buffered)
    assert (done.stdout, done.stderr) == ("[141\n", "")


# In this process


def test_without_a_command_the_help_is_printed(capsys):
    assert main([]) == 0
    assert "report" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["report"], "the following arguments are required: FILE"),
        (["report", "x.json", "--format", "html"], "invalid choice: 'html'"),
        (["report", "x.json", "--form", "json", "--\x1b[31mred"], "unrecognized arguments: --�[31mred"),
    ],
)
def test_a_wrong_option_is_exit_code_4(arguments, reason, capsys):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 4
    assert reason in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"benchmarks": 3}', '{"benchmarks": [{"name": "\\u001b[31m"}]}', "[" * 10**5]
)
def test_a_file_that_is_no_record_is_one_line_and_exit_code_4(content, good, tmp_path, capsys):
    bad = tmp_path / "bad.json"
    bad.write_text(content)
    assert main(["report", str(good), str(bad)]) == 4
    out, err = capsys.readouterr()
    assert out == "" and err.endswith("\n")
    assert err[:-1].isprintable() and err.startswith(f"python -m perf: {bad}: ")


def test_a_reference_that_is_not_there_is_exit_code_4_with_those_that_are(good, capsys):
    assert main(["report", str(good), "--reference", "tpu\n"]) == 4
    assert capsys.readouterr().err == (
        "python -m perf: --reference=tpu : no such device in these files; they have: cpu, cuda\n"
    )


def test_the_reference_can_be_chosen(good, capsys):
    assert main(["report", str(good), "--reference", "cuda"]) == 0
    assert "speedup vs cuda" in capsys.readouterr().out


def test_a_run_that_is_named_twice_is_not_counted_twice(good, capsys):
    assert main(["report", str(good), str(good.parent / "." / good.name)]) == 4
    assert f"{good}: is given more than once; give each run once" in capsys.readouterr().err


def test_an_interrupt_is_exit_code_130(good, monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("perf.commands.report.render", interrupt)
    assert main(["report", str(good)]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_narrow_terminal_gets_a_narrow_report(good, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "70")
    assert main(["report", str(good)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 70
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["report", str(good)]) == 0
    assert 100 < max(map(len, capsys.readouterr().out.splitlines())) <= 140


@pytest.mark.parametrize("format", ["terminal", "github", "csv", "json"])
def test_the_report_can_be_written_to_a_file(format, good, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["report", str(good), "--format", format]) == 0
    printed = capsys.readouterr().out
    output = tmp_path / "report.txt"
    assert main(["report", str(good), "--format", format, "--output", str(output)]) == 0
    assert capsys.readouterr() == ("", "")
    assert output.read_bytes().decode() == printed


def test_a_report_that_cannot_be_written_is_exit_code_4(good, tmp_path, capsys):
    for output, reason in ((tmp_path, "not a regular file"), (tmp_path / "none" / "x", "No such file or directory")):
        assert main(["report", str(good), "--output", str(output)]) == 4
        assert capsys.readouterr().err == f"python -m perf: {output}: cannot be written: {reason}\n"


def test_a_broken_record_leaves_the_old_report_alone(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    output = tmp_path / "report.txt"
    output.write_text("old")
    assert main(["report", str(tmp_path / "bad.json"), "--output", str(output)]) == 4
    assert output.read_text() == "old"


# Files that are whole or not there


def test_a_text_that_cannot_be_written_in_full_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RecordError, match=r"cannot be written: .*surrogates"):
        write_text(path, "a" * 100_000 + "\ud800")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match="cannot be written: No space left on device"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["x.txt"]


def test_a_link_stays_a_link_and_a_file_gets_the_usual_rights(tmp_path):
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    link.symlink_to(real)
    write_text(link, "×\n")
    assert link.is_symlink() and real.read_bytes() == "×\n".encode()
    (tmp_path / "plain").touch()
    assert real.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    with pytest.raises(RecordError, match="not a regular file"):
        write_text(Path(os.devnull), "text")
    assert not Path(os.devnull).is_file()
    with pytest.raises(RecordError, match=r"cannot be written: .*embedded null"):
        write_text(tmp_path / "a\0b", "text")


# Whatever a file holds

ODD = st.sampled_from(
    [None, True, False, 0, -1, 1, 2**62, 10**38, 1e308, 5e-324, -0.0, "", "x", "\x1b[31m", "a\nb", "|",
     "日本", "\ud800", "=1+1", "n" * 300, [], {}, [[]], {"a": {"b": 1}}, [1, "x"], "cuda", "epoch", 1e-9]
)  # fmt: skip
RAW = st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "1e999", "-1e400", "1e-400", "9" * 5000, "[" * 5000 + "]" * 5000]
)


def places(value, path=()):
    """Every place in a JSON document, as a path."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


PLACES = [path for path in places(GOOD) if path]


@st.composite
def mutated(draw):
    """GOOD with one to three nodes deleted, replaced, doubled or written as no JSON has it, perhaps cut off."""
    document, raw = copy.deepcopy(GOOD), {}
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(PLACES))
        try:
            parent = document
            for key in way:
                parent = parent[key]
            parent[last]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change has removed the place
        change = draw(st.sampled_from(["delete", "odd", "odd", "swap", "raw", "double"]))
        if isinstance(parent, str):
            continue
        if change == "delete":
            del parent[last]
        elif change == "odd":
            parent[last] = draw(ODD)
        elif change == "swap":
            parent[last] = copy.deepcopy(GOOD[draw(st.sampled_from(list(GOOD)))])
        elif change == "raw":
            mark = f"@{len(raw)}@"
            raw[f'"{mark}"'], parent[last] = draw(RAW), mark
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(parent[last]))
    text = json.dumps(document)
    for mark, token in raw.items():
        text = text.replace(mark, token)
    content = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        start = draw(st.integers(0, len(content)))
        content = content[:start] + draw(st.binary(max_size=4)) + content[start + draw(st.integers(0, len(content))) :]
    return content


@settings(
    max_examples=1000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(mutated(), st.sampled_from(["terminal", "terminal", "github", "csv", "json"]), st.booleans())
def test_any_file_is_reported_or_refused(good, capsys, content, format, two):
    path = good.with_name("mutated.json")
    path.write_bytes(content)
    code = main(["report", str(path), *([str(good)] if two else []), "--format", format])
    out, err = capsys.readouterr()
    assert code in (0, 4)
    assert (code == 0) == (err == "") == (out != "")
    assert err.count("\n") <= 1 and err.rstrip("\n").isprintable()
    lines = out.split("\n")
    assert all(line.isprintable() for line in lines)
    assert format != "terminal" or max(map(len, lines)) <= 100


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(mutated(), st.sampled_from(["terminal", "github", "json"]), st.sampled_from(["base", "head", "baseline"]))
def test_any_file_is_compared_or_refused(good, capsys, content, format, side):
    folder = good.with_name("kept") / "standard-1"
    path = (folder if side == "baseline" else good.parent) / (
        "baseline-default.json" if side == "baseline" else "mutated.json"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if side == "baseline":
        code = main(["baseline", "show", "--storage", str(folder.parent)])
    else:
        files = [str(path), str(good)] if side == "base" else [str(good), str(path)]
        code = main(["compare", *files, "--format", format])
    out, err = capsys.readouterr()
    assert code in (0, 1, 4, 10)
    assert (err == "") == (out != "") and (code != 4 or err)
    assert err.count("\n") <= 1 and err.rstrip("\n").isprintable()
    lines = out.split("\n")
    assert all(line.isprintable() for line in lines)
    assert format != "terminal" or max(map(len, lines)) <= 100
