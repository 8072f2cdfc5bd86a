"""The files of docs/ci, ready to copy: they are parsed, and each command runs in a repository with a bare remote.

uv, gh and the gate itself are stand-ins that write down how they are called.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, git

FOLDER = ROOT / "docs/ci"
SCRIPT = FOLDER / "stepwatch.sh"
WORKFLOWS = {path.stem: path for path in sorted(FOLDER.glob("*.yml"))}
NOTHING = 4
MARKER = "<!-- stepwatch -->"

# Each stand-in writes one line of JSON: its name and its arguments.
STAND_IN = """#!{python}
import json, os, sys
name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
with open(os.environ["CALLS"], "a") as calls:
    print(json.dumps([name, *arguments]), file=calls)
{does}
"""
UV = """
if os.environ.get("UV_FAILS", "nothing") in arguments:
    sys.exit("uv: cannot be resolved")
if arguments[0] == "venv":
    os.makedirs(f"{arguments[-1]}/bin")
    with open(f"{arguments[-1]}/bin/python", "w") as file:
        file.write(open(os.environ["PYTHON_STAND_IN"]).read())
    os.chmod(f"{arguments[-1]}/bin/python", 0o755)
elif arguments[:2] == ["pip", "freeze"]:
    print("numpy==2.0\\ntorch==2.11.0+cpu\\ntorchvision==0.26.0+cpu")
else:
    for flag, name in zip(arguments, arguments[1:]):
        if flag in ("-r", "--constraints"):
            assert os.path.isfile(name), name
            if flag == "--constraints":
                with open(os.environ["CALLS"], "a") as calls:
                    print(json.dumps(["kept", open(name).read()]), file=calls)
"""
GATE = """
if os.environ.get("REAL"):
    os.execv(sys.executable, [sys.executable, *arguments])
code = int(os.environ.get("CODE", 0))
if code != 4:
    for argument in arguments:
        for flag in ("--perf-summary=", "--benchmark-json=", "--junit-xml="):
            if argument.startswith(flag):
                open(argument.removeprefix(flag), "w").write("<!-- stepwatch -->\\n## Stepwatch: 1 SLOWER\\n")
sys.exit(code)
"""
GH = """
if any("/pulls" in argument for argument in arguments):
    print(os.environ.get("NUMBERS", "7"))
elif arguments[:2] == ["run", "download"]:
    if not os.environ.get("SUMMARY"):
        sys.exit("no artifact")
    os.makedirs("stepwatch")
    open("stepwatch/stepwatch.md", "w").write(os.environ["SUMMARY"])
elif "--jq" in arguments:
    print(os.environ.get("IDS", ""), end="")
else:
    with open(os.environ["CALLS"], "a") as calls:
        print(json.dumps(["body", open("comment.md").read()]), file=calls)
"""


class Job:
    """A clone of a repository with a bare remote, in which commands of a workflow run."""

    def __init__(self, folder):
        self.folder = folder / "clone"
        self.calls_file = folder / "calls"
        self.tools = folder / "tools"
        self.stepwatch = folder / "stepwatch"
        self.tools.mkdir()
        for name, does in {"uv": UV, "gh": GH}.items():
            self._make(self.tools / name, does)
        self._make(folder / "gate", GATE)
        remote = folder / "remote.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", remote], check=True)
        subprocess.run(["git", "clone", "-q", remote, self.folder], check=True, capture_output=True)
        (self.folder / "requirements.txt").write_text("numpy\n")
        (self.folder / ".ci").mkdir()
        shutil.copy(SCRIPT, self.folder / ".ci")
        self.commit("base")
        git(self.folder, "push", "-q", "origin", "HEAD:main")
        git(self.folder, "switch", "-q", "-c", "change")
        self.commit("head")
        self.env = {
            "PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder), "TMPDIR": str(folder),
            "CALLS": str(self.calls_file), "PYTHON_STAND_IN": str(folder / "gate"),
            "STEPWATCH_URL": str(self.stepwatch),
            "GITHUB_ENV": str(folder / "env"), "GITHUB_BASE_REF": "main", "CI_PROJECT_DIR": str(self.folder),
        }  # fmt: skip

    def _make(self, path, does):
        path.write_text(STAND_IN.format(python=sys.executable, does=does))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def commit(self, message):
        git(self.folder, "add", "-A")
        git(self.folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", message)

    def has_stepwatch(self):
        """Make the repository that the script clones: what it needs of Stepwatch, without anything that runs."""
        (self.stepwatch / "perf").mkdir(parents=True)
        (self.stepwatch / "requirements.txt").write_text("torch\n")
        subprocess.run(["git", "init", "-q", "-b", "main", self.stepwatch], check=True)
        git(self.stepwatch, "add", "-A")
        git(self.stepwatch, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "stepwatch")

    def run(self, command, **env):
        """Run `command` as GitHub does, with `bash -e`; then read what it leaves for the environment of later ones."""
        made = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command],
            cwd=self.folder, env=self.env | env, capture_output=True, text=True,
        )  # fmt: skip
        if (later := Path(self.env["GITHUB_ENV"])).exists():
            self.env |= dict(line.split("=", 1) for line in later.read_text().splitlines())
        return made

    @property
    def calls(self):
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return list(map(json.loads, lines))

    def called(self, name):
        return [arguments for first, *arguments in self.calls if first == name]


@pytest.fixture
def job(tmp_path):
    made = Job(tmp_path)
    made.has_stepwatch()
    return made


def parsed(name):
    return yaml.safe_load(WORKFLOWS[name].read_text())


def steps(name):
    (job,) = parsed(name)["jobs"].values()
    return job["steps"]


def commands(name):
    return [step["run"] for step in steps(name) if "run" in step]


GITHUB = [name for name in WORKFLOWS if name.startswith("github")]


def test_there_are_files_for_both_systems_and_a_plain_script():
    assert set(WORKFLOWS) == {"github", "github-comment", "github-torch", "gitlab"}


@pytest.mark.parametrize("name", GITHUB)
def test_a_workflow_has_a_trigger_few_rights_a_time_limit_and_pinned_actions(name):
    document = parsed(name)
    assert document[True]  # YAML reads `on` as a truth value
    (job,) = document["jobs"].values()
    rights = {"github-comment": {"actions": "read", "pull-requests": "write"}}.get(name, {"contents": "read"})
    assert document["permissions"] == rights
    assert job["timeout-minutes"] <= 45
    for used in re.findall(r"uses: (.*)", WORKFLOWS[name].read_text()):
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_command_holds_text_of_a_pull_request(name):
    """GitHub puts an expression into the command before the shell reads it: the name of a branch would run."""
    found = commands(name) if name in GITHUB else parsed(name)["stepwatch"]["script"]
    assert found
    assert all("${{" not in command for command in found)
    assert "pull_request_target" not in WORKFLOWS[name].read_text()


def test_the_comment_is_posted_for_the_runs_of_the_gate():
    assert parsed("github-comment")[True]["workflow_run"]["workflows"] == [parsed("github")["name"]]


@pytest.mark.parametrize("name", ["github", "github-torch"])
def test_what_the_script_leaves_is_what_is_uploaded(name):
    upload = next(step["with"] for step in steps(name) if "upload-artifact" in step.get("uses", ""))
    assert upload["path"] == "stepwatch.*"
    assert "fetch-depth" in WORKFLOWS["github"].read_text()  # the base of a pull request is an older commit


def environment(job):
    """What the workflow sets for the script, but for what a user must write."""
    return {
        key: str(value) for key, value in job["env"].items() if key in ("MODEL", "INSTALL", "STEPWATCH_REF", "PYTHON")
    }


@pytest.mark.parametrize("code", [0, 1, 10, NOTHING])
def test_the_command_of_github_installs_and_gates_and_keeps_the_exit_code(job, code):
    (workflow,) = parsed("github")["jobs"].values()
    (command,) = commands("github")
    made = job.run(command, CODE=str(code), **environment(workflow))
    assert made.returncode == code, made.stderr
    (gate,) = job.called("python")
    assert gate[:2] == ["-m", "pytest"] and gate[2].endswith("/stepwatch/perf")
    assert gate[3:] == [
        "--perf-model=mypackage.nets:factory", "--perf-against=origin/main...", "--perf-summary=stepwatch.md",
        "--benchmark-json=stepwatch.json", "--junit-xml=stepwatch.xml",
    ]  # fmt: skip
    assert sorted(path.name for path in job.folder.glob("stepwatch.*")) == (
        ["stepwatch.md"] if code == NOTHING else ["stepwatch.json", "stepwatch.md", "stepwatch.xml"]
    )
    if code == NOTHING:
        assert "nothing was measured\n\npytest ended with exit code 4." in (job.folder / "stepwatch.md").read_text()
    assert not list(job.tools.parent.glob("tmp.*"))  # the environment is removed


def test_the_projects_packages_come_first_and_its_torch_is_kept(job):
    job.run(commands("github")[0], INSTALL="-e . -r requirements.txt")
    venv, first, freeze, second = job.called("uv")
    assert venv[:4] == ["venv", "--quiet", "--python", "3.12"]
    assert first[:3] == ["pip", "install", "--quiet"] and first[-4:] == ["-e", ".", "-r", "requirements.txt"]
    assert freeze[:2] == ["pip", "freeze"]
    assert second[-3].endswith("/stepwatch/requirements.txt") and second[-2] == "--constraints"
    assert job.called("kept") == [["torch==2.11.0+cpu\ntorchvision==0.26.0+cpu\n"]]


def test_two_torches_get_an_environment_each(job):
    (workflow,) = parsed("github-torch")["jobs"].values()
    old = parsed("github-torch")[True]["workflow_dispatch"]["inputs"]["old"]["default"]
    made = job.run(commands("github-torch")[0], OLD_TORCH=old, **environment(workflow))
    assert made.returncode == 0, made.stderr
    installs = [call for call in job.called("uv") if call[:2] == ["pip", "install"] and "-r" in call]
    assert [call[-2:] for call in installs[::2]] == [["-r", "requirements.txt"], old.split()]
    (gate,) = job.called("python")
    (against,) = [argument for argument in gate if argument.startswith("--perf-against")]
    assert re.fullmatch(r"--perf-against-python=.*/old/bin/python", against)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"UV_FAILS": "venv"}, "uv cannot make an environment with Python 3.12"),
        ({"UV_FAILS": "requirements.txt"}, "uv cannot install -r requirements.txt*"),
        ({"UV_FAILS": "torch==2.0", "OLD_TORCH": "torch==2.0"}, "uv cannot install -r requirements.txt torch==2.0"),
        ({"UV_FAILS": "--constraints"}, "what Stepwatch needs does not go together with -r requirements.txt*"),
        ({"STEPWATCH_URL": "/nowhere"}, "/nowhere has no main"),
        ({"STEPWATCH_REF": "v9"}, "* has no v9"),
    ],
)
def test_what_goes_wrong_before_the_gate_is_one_line_and_exit_code_4(job, env, says):
    (job.folder / "stepwatch.md").write_text("of an earlier run")
    made = job.run("sh .ci/stepwatch.sh", GITHUB_STEP_SUMMARY=str(job.tools.parent / "page.md"), **env)
    assert made.returncode == NOTHING
    last = made.stderr.splitlines()[-1]
    assert re.fullmatch(f"stepwatch.sh: {re.escape(says).replace(chr(92) + '*', '.*')}; nothing was measured", last)
    assert job.called("python") == []
    page = (job.folder / "stepwatch.md").read_text()
    assert page.startswith(f"{MARKER}\n## Stepwatch: nothing was measured\n\n")
    assert last.removeprefix("stepwatch.sh: ").removesuffix("; nothing was measured") in page
    assert (job.tools.parent / "page.md").read_text() == page


@pytest.mark.parametrize(("backend", "known"), [(None, "cpu"), ("auto", "auto"), ("", None)])
def test_the_index_of_torch_can_be_chosen(job, backend, known):
    (job.tools / "uv").write_text(f'#!/bin/sh\necho "$UV_TORCH_BACKEND" > {job.tools}/seen; exit 1\n')
    job.run("sh .ci/stepwatch.sh", **({} if backend is None else {"UV_TORCH_BACKEND": backend}))
    assert (job.tools / "seen").read_text().strip() == (known or "")


def test_the_commands_of_gitlab(job):
    workflow = parsed("gitlab")["stepwatch"]
    base = git(job.folder, "rev-parse", "origin/main")
    variables = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": base, **environment({"env": workflow["variables"]})}
    for command in workflow["script"]:
        assert job.run(command, **variables).returncode == 0
    (gate,) = job.called("python")
    assert f"--perf-against={base}" in gate
    (job.folder / ".uv-cache").mkdir()
    (job.folder / ".uv-cache/x").write_text("")
    assert ".uv-cache" not in git(job.folder, "status", "--porcelain")  # it is no change of head
    assert set(workflow["artifacts"]["paths"]) == {"stepwatch.md", "stepwatch.json"}
    assert "TOKEN" not in WORKFLOWS["gitlab"].read_text()  # the merge request's code runs in this job
    assert (
        workflow["artifacts"]["reports"]["junit"] == "stepwatch.xml" and workflow["allow_failure"]["exit_codes"] == 10
    )


EVENT = {
    "GH_REPO": "team/project", "RUN": "11", "PAGE": "https://h/run", "HEAD": "ab" * 20, "OWNER": "forker",
    "BRANCH": "x$(touch evil)`touch evil`", "CONCLUSION": "failure",
}  # fmt: skip


def comment(job, **env):
    for step in steps("github-comment"):
        if "if" not in step or job.env.get("NUMBER"):
            assert step.get("if", "env.NUMBER") == "env.NUMBER"
            made = job.run(step["run"], **EVENT, **env)
            assert made.returncode == 0, made.stderr
    return job.called("gh")


def test_a_comment_is_posted_once_with_the_marker_first(job):
    calls = comment(job, SUMMARY=f"{MARKER}\n## Stepwatch: 1 SLOWER, says @team\n")
    assert calls[0][4:8] == ["-f", "state=open", "-f", f"head=forker:{EVENT['BRANCH']}"]
    assert calls[-1][:4] == ["api", "--silent", "--method", "POST"] and calls[-1][4].endswith("/issues/7/comments")
    (body,) = job.called("body")
    assert body[0] == (
        f"{MARKER}\nThe job of {EVENT['HEAD']} ended with **failure**: [its log](https://h/run). It wrote this:\n\n"
        f"{MARKER}\n## Stepwatch: 1 SLOWER, says @<!-- -->team\n"
    )
    assert not (job.folder / "evil").exists()


def test_an_earlier_comment_is_edited(job):
    calls = comment(job, SUMMARY="x", IDS="21\n22\n")
    assert calls[-1][3:5] == ["PATCH", "repos/team/project/issues/comments/21"]


def test_a_run_that_measured_nothing_replaces_the_old_verdict(job):
    comment(job)
    assert job.called("body")[0][0].endswith("It wrote this:\n\nNothing. The log says why.\n")


def test_a_run_of_an_older_commit_says_nothing(job):
    assert len(comment(job, NUMBERS="")) == 1


def test_a_link_in_the_artifact_is_not_followed(job):
    (job.folder / "stepwatch").mkdir()
    (job.folder / "stepwatch/stepwatch.md").symlink_to("/etc/hostname")
    job.run(steps("github-comment")[-1]["run"], NUMBER="7", **EVENT)
    assert job.called("body")[0][0].endswith("Nothing. The log says why.\n")


def test_a_summary_that_is_too_long_is_cut(job):
    comment(job, SUMMARY="x" * 100_000)
    assert len(job.called("body")[0][0]) < 65_536
