#!/bin/sh
# Did this change make training slower? Run it in the folder of your project:
#
#     sh .ci/stepwatch.sh [BASE]
#
# BASE is a git ref (default: origin/main...). `REF...` is the commit at which your branch left REF. Head is the working tree.
# It needs git, and Python with pip. It leaves stepwatch.md for the reviewer, stepwatch.json (the record: keep this one) and
# stepwatch.xml (JUnit). Exit code: 0 no slower, 1 slower or broken, 10 not decided, 4 nothing was measured.
set -u

# What you set, here or in the environment:
: "${STEPWATCH_URL:=https://example.org/stepwatch.git}" # from where the runner clones Stepwatch
: "${STEPWATCH_REF:=main}"                # a tag or commit of it: what judges should change only when you want it
: "${MODEL:=mypackage.nets:factory}"      # what to train
: "${INSTALL:=-r requirements.txt}"       # what your project needs. src layout: -e . Monorepo: -e ../../libs/common -e .
: "${OPTIONS:=}"                          # more options, such as --perf-inconclusive=pass
: "${PYTHON:=3.12}"                       # the version of Python
: "${UV_TORCH_BACKEND=cpu}"               # which torch: cpu, auto (for the GPU of this machine), or empty: the index's own
: "${OLD_TORCH:=}"                        # compare two torches, with the same code: torch==2.11.0 torchvision==0.26.0
: "${UV_VERSION:=0.13.9}"                 # of the installer, if there is none

# Ends the run, and says why where the reviewer looks.
fail() {
    echo "stepwatch.sh: $1; nothing was measured" >&2
    printf '<!-- stepwatch -->\n## Stepwatch: nothing was measured\n\n%s. The log says more.\n' "$1" > stepwatch.md
    if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then cat stepwatch.md >> "$GITHUB_STEP_SUMMARY"; fi
    exit "${2:-4}"
}

work=$(mktemp -d) || exit 4
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
if [ -n "$UV_TORCH_BACKEND" ]; then export UV_TORCH_BACKEND; else unset UV_TORCH_BACKEND; fi
unset UV_SYSTEM_PYTHON VIRTUAL_ENV # they would install elsewhere
rm -f stepwatch.md stepwatch.json stepwatch.xml # of an earlier run

if ! command -v uv > /dev/null; then
    python3 -m venv "$work/uv" && "$work/uv/bin/pip" install --quiet "uv==$UV_VERSION" || fail "uv cannot be installed"
    PATH=$work/uv/bin:$PATH
fi
git clone --quiet "$STEPWATCH_URL" "$work/stepwatch" && git -C "$work/stepwatch" checkout --quiet "$STEPWATCH_REF" ||
    fail "$STEPWATCH_URL has no $STEPWATCH_REF"

# An environment: first what your project needs, with its torch; then what Stepwatch needs, which keeps that torch.
environment() {
    venv=$work/$1
    shift
    uv venv --quiet --python "$PYTHON" "$venv" || fail "uv cannot make an environment with Python $PYTHON"
    uv pip install --quiet --python "$venv" $INSTALL "$@" || fail "uv cannot install $INSTALL $*"
    uv pip freeze --python "$venv" > "$work/installed.txt" || fail "uv cannot list what it has installed"
    grep -E '^(torch|torchvision)==' "$work/installed.txt" > "$work/keep.txt"
    uv pip install --quiet --python "$venv" -r "$work/stepwatch/requirements.txt" --constraints "$work/keep.txt" ||
        fail "what Stepwatch needs does not go together with $INSTALL $*"
}

environment new
if [ -n "$OLD_TORCH" ]; then
    environment old $OLD_TORCH
    set -- "--perf-against-python=$work/old/bin/python"
else
    set -- "--perf-against=${1:-origin/main...}"
fi
"$work/new/bin/python" -m pytest "$work/stepwatch/perf" "--perf-model=$MODEL" "$@" --perf-summary=stepwatch.md \
    --benchmark-json=stepwatch.json --junit-xml=stepwatch.xml $OPTIONS
code=$?
if [ ! -f stepwatch.md ]; then fail "pytest ended with exit code $code" "$code"; fi
exit $code
