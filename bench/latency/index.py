"""Sampling a video: ours against the AKS way, a full decode with PyAV, and ffmpeg decoding to null.

``python -m bench.latency.index [--quick] [--folder FOLDER] [--out FILE]``

One run: every method on every video, three times interleaved (on the hour once), each time in a
process of its own; medians. Ratios of CPU seconds tell how much less work is done; those of wall seconds also how well
cores are used, and mean something on an idle machine only (the load is printed). Then the whole
index of the long video with a ViT-B-32. The videos are made on the first run and kept in FOLDER.
``--quick`` takes a shorter long video; published numbers come from the full run.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import imageio_ffmpeg

from bench.command import make_parser, run_command
from bench.latency.videos import CLIPS, GOP_250, make_clip, repeat
from bench.report import print_table, write_result

__all__ = ["main"]

CLIP_SECONDS = 60
REPEATS = 3
CONSUMER_SECONDS = 0.1
"""How long a CLIP call for one frame takes on a CPU, about (ViT-B-32)."""


class Run(NamedTuple):
    """One line of the table."""

    method: str
    threads: int
    consumer_seconds: float = 0.0

    @property
    def label(self) -> str:
        """Name in tables and results."""
        busy = f", {self.consumer_seconds:g} s per frame" if self.consumer_seconds else ""
        return f"{self.method}, {self.threads} thread{'s' if self.threads > 1 else ''}{busy}"


SHORT_RUNS = [Run(method, threads) for method in ("ffmpeg", "exact", "keyframes") for threads in (1, 2)]
SHORT_RUNS.append(Run("pyav_full", 1))
LONG_RUNS = [
    Run("ffmpeg", 1),
    Run("exact", 1),
    Run("exact", 2),
    Run("keyframes", 1),
    Run("exact", 1, CONSUMER_SECONDS),
    Run("aks", 1, CONSUMER_SECONDS),
]
TARGETS = {
    ("720p-gop30.mp4", "exact, 1 thread"): 1.8,
    # Each wanted frame is the last of its group here: the worst case.
    ("720p-gop30-29.97.mp4", "exact, 1 thread"): 1.8,
    ("720p-gop250.mp4", "exact, 1 thread"): 1.5,
    ("720p-hevc.mp4", "exact, 1 thread"): 1.4,
    ("720p-gop250.mp4", "keyframes, 1 thread"): 4.0,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="a long video of 5 minutes instead of an hour")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hybrid-bench-videos")
    parser.add_argument("--no-index", action="store_true", help="leave out the whole index with ViT-B-32")
    arguments = parser.parse_args(argv)
    minutes = 5 if arguments.quick else 60
    shorts = [make_clip(clip, arguments.folder, seconds=CLIP_SECONDS) for clip in CLIPS]
    long = repeat(make_clip(GOP_250, arguments.folder, seconds=CLIP_SECONDS), times=minutes)
    load_before = os.getloadavg()[0]
    results = {clip.name: _measure_all(path, SHORT_RUNS) for clip, path in zip(CLIPS, shorts, strict=True)}
    long_name = f"{minutes} min of {GOP_250.name}"
    results[long_name] = _measure_all(long, LONG_RUNS, repeats=REPEATS if arguments.quick else 1)
    ratios = _ratios(results, long_name)
    _print(results, ratios)
    result: dict[str, Any] = {
        "ffmpeg": imageio_ffmpeg.get_ffmpeg_version(),
        "quick": arguments.quick,
        "load_before_and_after": [load_before, os.getloadavg()[0]],
        "medians_of": {"short": REPEATS, "long": REPEATS if arguments.quick else 1},
        "results": results,
        "ratios": ratios,
    }
    if not arguments.no_index:
        result["whole_index"] = _whole_index(long)
    write_result("index", result, arguments.out)


def _measure_all(video: Path, runs: Sequence[Run], *, repeats: int = REPEATS) -> dict[str, dict[str, float]]:
    """Medians of every run on one video; the repeats are interleaved, so that a slow minute hits all."""
    measured: dict[str, list[dict[str, float]]] = {run.label: [] for run in runs}
    for _ in range(repeats):
        for run in runs:
            measured[run.label].append(_measure(run, video))
    return {
        label: {key: statistics.median(one[key] for one in several) for key in several[0]}
        for label, several in measured.items()
    }


def _measure(run: Run, video: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.latency.decoding", run.method, str(video), str(run.threads)]
    done = subprocess.run([*command, str(run.consumer_seconds)], capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _ratios(results: dict[str, dict[str, dict[str, float]]], long_name: str) -> list[dict[str, Any]]:
    """How many times less CPU and wall time than the run that each is compared with."""
    ratios = []
    for video, runs in results.items():
        for label in runs:
            method, _, threads = label.partition(", ")
            if method not in ("exact", "keyframes") or "per frame" in label:
                continue
            base = f"ffmpeg, {threads}"
            if base in runs:
                ratios.append(_ratio(video, base, label, runs, TARGETS.get((video, label))))
        two, one = "exact, 2 threads", "exact, 1 thread"
        if two in runs:
            ratios.append(_ratio(video, one, two, runs, 1.8))
    busy = f", {CONSUMER_SECONDS:g} s per frame"
    ratios.append(_ratio(long_name, f"aks, 1 thread{busy}", f"exact, 1 thread{busy}", results[long_name], 2.5))
    return ratios


def _ratio(
    video: str, base: str, label: str, runs: dict[str, dict[str, float]], target: float | None
) -> dict[str, Any]:
    return {
        "video": video,
        "what": label,
        "against": base,
        "cpu": runs[base]["cpu_seconds"] / runs[label]["cpu_seconds"],
        "wall": runs[base]["wall_seconds"] / runs[label]["wall_seconds"],
        "target": target,
        "judged_by": "wall" if "2 threads" in label and "exact" in base else "cpu",
    }


def _print(results: dict[str, dict[str, dict[str, float]]], ratios: list[dict[str, Any]]) -> None:
    rows = [
        [
            video,
            label,
            f"{run['cpu_seconds']:.2f}",
            f"{run['wall_seconds']:.2f}",
            f"{run['above_start_mb']:.0f}",
            int(run["frames"]),
        ]
        for video, runs in results.items()
        for label, run in runs.items()
    ]
    print_table(["video", "method", "CPU s", "wall s", "MB above start", "frames"], rows)
    print()
    print_table(
        ["video", "what", "against", "CPU ratio", "wall ratio", "target"],
        [
            [r["video"], r["what"], r["against"], f"{r['cpu']:.2f}", f"{r['wall']:.2f}", r["target"] or ""]
            for r in ratios
        ],
    )
    print()


def _whole_index(video: Path) -> dict[str, Any]:
    """The whole index of the long video: ``bench.latency.whole_index`` in a process of its own."""
    command = [sys.executable, "-m", "bench.latency.whole_index", str(video)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *table, last = done.stdout.splitlines()
    print("\n".join(table))
    measured: dict[str, Any] = json.loads(last)
    return measured


if __name__ == "__main__":
    run_command(main)
