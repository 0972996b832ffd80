"""A picture of a run: how good each method is, against how long a question takes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.accuracy.run.measures import ACCURACY
from hybrid.errors import MissingDependencyError, SaveError
from hybrid.storage.atomic import write_atomically

__all__ = ["main_measure", "save_plot"]


def main_measure(report: Mapping[str, Any]) -> str | None:
    """What the picture shows: the accuracy if there is one, else the first measure (a recall); None if none."""
    rows = report["measures"]["all"].values()
    names = list(dict.fromkeys(name for row in rows for name in row))
    if ACCURACY in names:
        return ACCURACY
    return names[0] if names else None


def save_plot(report: Mapping[str, Any], path: Path, *, title: str) -> bool:
    """Draw and save it as PNG: seconds to select frames (median, logarithmic) against the main measure, 95 % intervals.

    Args:
        report: of :func:`bench.accuracy.run.report.build_report`.
        path: the file.
        title: above the picture.

    Returns:
        Whether there was something to draw.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        SaveError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingDependencyError('the plot needs matplotlib: pip install "hybrid[bench]"') from exc
    measure = main_measure(report)
    points = [
        (method, state["select_seconds"]["median"], report["measures"]["all"][method][measure])
        for method, state in report["methods"].items()
        if measure in report["measures"]["all"][method] and state["select_seconds"]["median"]
    ]
    if measure is None or not points:
        return False
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for number, (method, seconds, estimate) in enumerate(points):
        # Of equal values, rounding can put an end of the interval on the wrong side of the mean.
        low, high = (max(0.0, e) for e in (estimate["value"] - estimate["low"], estimate["high"] - estimate["value"]))
        colour = f"C{number % 10}"
        axes.errorbar(seconds, estimate["value"], yerr=[[low], [high]], fmt="o", capsize=3, color=colour, label=method)
        axes.annotate(method, (seconds, estimate["value"]), xytext=(7, 5), textcoords="offset points", color=colour)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel("seconds to select the frames of a question (median; models loaded, video indexed)")
    axes.set_ylabel(measure.replace("_", " ").replace("@", " within ") + (" s" if "@" in measure else ""))
    axes.set_ylim(-0.02, 1.02)
    axes.grid(visible=True, alpha=0.3)
    axes.set_title(title, fontsize="medium")
    png = io.BytesIO()
    figure.savefig(png, format="png")
    try:
        write_atomically(path, png.getvalue(), durable=False)
    except OSError as exc:
        raise SaveError(f"{path} cannot be written: {exc.strerror or exc}") from exc
    return True
