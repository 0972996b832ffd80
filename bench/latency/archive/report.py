"""Tables, curves and the file of what was measured of archives."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.latency.archive.figures import TOP
from bench.plot import Curve, draw_curves
from bench.report import print_table
from hybrid.storage.foreign_json import read_json

__all__ = ["draw", "merged", "show"]


def show(result: dict[str, Any]) -> None:
    """Tables for people."""
    print(f"\n{result['videos']} videos of {result['frames_each']} frames, {result['dimension']} values, "
          f"{result['backend']}, shake {result['shake']:g}, content {result['content']:g}")  # fmt: skip
    print_table(["what", "figure"], [[key, f"{value:.4g}"] for key, value in result["figures"].items()])
    columns = ["search", "recall", "least_recall", "ms", "cpu_ms", "times_faster", "times_faster_cpu", "units"]
    print_table(columns, [[_cell(point[name]) for name in columns] for point in result["curve"]])
    for method in result["methods"] or ():
        print_table(list(method), [[_cell(value) for value in method.values()]])


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def merged(result: dict[str, Any], out: Path) -> dict[str, Any]:
    """The result together with those of other archives in a file."""
    known: list[dict[str, Any]] = []
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = read_json(out)["archives"]
    fresh = {_shape(archive) for archive in result["archives"]}
    archives = [archive for archive in known if _shape(archive) not in fresh] + result["archives"]
    return {**result, "archives": sorted(archives, key=_shape)}


def _shape(archive: dict[str, Any]) -> tuple[Any, ...]:
    kind = (archive["backend"], archive["shake"], archive["content"])
    return *kind, archive["videos"] * archive["frames_each"], archive["dimension"]


def draw(archives: Sequence[dict[str, Any]], path: Path) -> None:
    """Recall against speed, a line for each archive."""
    curves = []
    for archive in archives:
        points = [point for point in archive["curve"] if point["search"].startswith("units")]
        default = next(point for point in archive["curve"] if point["search"] == "default")
        millions = archive["videos"] * archive["frames_each"] / 1e6
        label = (
            f"{archive['backend']}, {millions:.2f} M frames, shake {archive['shake']:g}, content {archive['content']:g}"
        )
        line = [(point["times_faster_cpu"], point["recall"]) for point in points]
        curves.append(Curve(label, line, mark=(default["times_faster_cpu"], default["recall"])))
    draw_curves(
        curves,
        path,
        title=f"Approximate search of an archive, recall@{TOP} of the exact one",
        x_label="times faster than the exact search of the same archive (processor time, one thread)",
        y_label="recall",
        target=(10.0, 0.95),
    )
