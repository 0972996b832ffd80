"""The report of every benchmark: command, commit, machine and versions; a table, and one JSON line last."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["circumstances", "module_name", "print_table", "write_result"]

PACKAGES = (
    "av",
    "decord",
    "faiss-cpu",
    "faiss-gpu",
    "imageio-ffmpeg",
    "lancedb",
    "matplotlib",
    "numpy",
    "open_clip_torch",
    "openai",
    "torch",
    "transformers",
)


def circumstances() -> dict[str, Any]:
    """Command, commit, machine kind and versions, for a result that can be repeated."""
    return {
        "command": " ".join(["python -m", module_name(), *sys.argv[1:]]),
        "commit": _commit(),
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "system": platform.system(),
            "python": platform.python_version(),
        },
        "versions": {name: version for name in PACKAGES if (version := _version(name)) is not None},
    }


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A plain table for people."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def write_result(
    benchmark: str, figures: Mapping[str, Any], out: Path | None, *, run: Mapping[str, Any] | None = None
) -> None:
    """Print the result as the last line, and write it to a file if one is named.

    Args:
        benchmark: its name.
        figures: what it measured, ready for ``json.dumps``.
        out: the file.
        run: :func:`circumstances`; by default those of now.
    """
    result = {"benchmark": benchmark, **(circumstances() if run is None else run), **figures}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def module_name() -> str:
    """The name under which ``python -m`` runs this program."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec is not None else Path(sys.argv[0]).name


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
