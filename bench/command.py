"""What the commands of the benchmarks have in common: a parser, checks of numbers, errors in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from bench.report import module_name
from hybrid.errors import HybridError, InputError
from hybrid.runtime import settle_process

__all__ = ["check_counts", "make_parser", "run_command"]


def make_parser(text: str | None, *, out: bool = True) -> argparse.ArgumentParser:
    """A parser that is described by the first line of a module's text.

    Args:
        text: ``__doc__`` of the module.
        out: whether it has ``--out``, the file that :func:`bench.report.write_result` writes.
    """
    parser = argparse.ArgumentParser(description=text.splitlines()[0] if text else None)
    if out:
        parser.add_argument("--out", type=Path, help="write the result to this file as well")
    return parser


def check_counts(given: argparse.Namespace, *names: str) -> None:
    """Refuse numbers below 1 before any work is done; an option without a value is None.

    Raises:
        InputError: one is below 1.
    """
    for name in names:
        value = getattr(given, name)
        for number in value if isinstance(value, list) else [value]:
            if number is not None and number < 1:
                raise InputError(f"--{name.replace('_', '-')} is {number}; it must be at least 1")


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a benchmark as a program; an error of this project ends it with one line."""
    settle_process()
    try:
        sys.exit(main())
    except HybridError as exc:
        sys.exit(f"{module_name()}: {exc}")
