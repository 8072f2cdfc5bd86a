"""Which of the packages in `requirements.txt` are missing here. Imported before anything that needs one of them."""

from importlib.util import find_spec

from perf.here import install

# Without nvidia-ml-py: a run goes on without it.
PACKAGES = (
    "torch", "torchvision", "pytest", "pytest_benchmark", "msgspec", "tabulate", "scipy", "numpy", "psutil", "filelock",
)  # fmt: skip


def missing() -> str:
    """A sentence that names the packages that are missing, and says how to install them; "" if there are all."""
    absent = [name.replace("_", "-") for name in PACKAGES if find_spec(name) is None]
    are = "is not installed" if len(absent) == 1 else "are not installed"
    return f"{', '.join(absent)} {are}: {install()}" if absent else ""
