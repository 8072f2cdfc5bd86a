"""The command line of a script: its docstring is the help."""

import argparse


def parser(docstring: str | None) -> argparse.ArgumentParser:
    """A parser whose `--help` is the `docstring` of the script, laid out as it is there."""
    return argparse.ArgumentParser(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)


def positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError
    return value
