"""Index hundreds of damaged files: how each ends, how long it takes, how much memory it takes.

``python -m bench.robustness.bad_videos SOURCES [--count 500] [--seed 0] [--out FILE]``

SOURCES is a folder of good videos (short ones). The bad ones are made from them (see
:mod:`bench.robustness.mutate`) in a temporary folder and indexed by the engine's own run, with the
bundled small encoder, in a process of its own, whose time and memory are taken down file by file.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.command import make_parser, run_command
from bench.report import print_table, write_result
from bench.robustness.mutate import mutate_videos
from bench.robustness.watch import FileWatch, Spent
from hybrid.engine.batch.run import RunSummary, VideoOutcome
from hybrid.engine.batch.worker_process import EngineRecipe
from hybrid.engine.batch.workers import index_in_workers
from hybrid.options.engine import EngineOptions
from indexes.maintenance.verify import verify_archive
from indexes.open_archive import open_archive


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    sources = sorted(path for path in arguments.sources.iterdir() if path.is_file())
    with tempfile.TemporaryDirectory() as name:
        videos = mutate_videos(sources, Path(name) / "bad", arguments.count, seed=arguments.seed)
        archive = Path(name) / "archive"
        open_archive(archive).close()
        recipe = EngineRecipe(str(archive), EngineOptions(preset="tiny", device="cpu"))
        with FileWatch() as watch:
            # One worker, so that what its process takes belongs to the file that it is at.
            summary = index_in_workers(recipe, videos, watch, workers=1)
        with FileWatch() as watch_again:
            again = index_in_workers(recipe, videos, watch_again, workers=1)
        with open_archive(archive, create=False) as opened:
            damaged = [finding.video_id for finding in verify_archive(opened) if finding.state != "sound"]
    result = describe(summary, again, watch.spent)
    print_table(["mutation", "done", "partial", "skipped", "failed"], _rows(summary))
    print_table(["per file", "median", "95 %", "most", "which"], _spent_rows(result["per_file"]))
    print(f"{len(summary.outcomes)} of {len(videos)} ended: {summary.counts()}; {len(damaged)} indexes not sound")
    write_result(
        "bad_videos",
        {
            "load_at_end": os.getloadavg()[2],
            "sources": [path.name for path in sources],
            "videos": len(videos),
            "seed": arguments.seed,
            **result,
            "not_sound": damaged,
        },
        arguments.out,
    )


def describe(summary: RunSummary, again: RunSummary, spent: Mapping[str, Spent]) -> dict[str, Any]:
    """The figures of a run and of the one after it.

    The first video is left out of what videos took: the worker loads its models with it.
    """
    first = summary.outcomes[0].video
    taken = {video: one for video, one in spent.items() if video != first}
    return {
        "ended": len(summary.outcomes),
        "counts": summary.counts(),
        "without_reason": sum(1 for outcome in summary.failed if not outcome.reason),
        "seconds": round(summary.seconds, 1),
        "per_file": {
            "wall_seconds": _spread((outcome.seconds, outcome.video) for outcome in summary.outcomes[1:]),
            "cpu_seconds": _spread((one.cpu_seconds, video) for video, one in taken.items()),
            "worker_peak_mb": _spread((one.peak_mb, video) for video, one in taken.items()),
            "worker_grew_mb": _spread((one.peak_mb - one.start_mb, video) for video, one in taken.items()),
        },
        "again_seconds": round(again.seconds, 1),
        "again_counts": again.counts(),
        "reasons": dict(Counter(_kind(outcome) for outcome in summary.failed).most_common(20)),
    }


def _spread(measured: Iterable[tuple[float, str]]) -> dict[str, Any]:
    """Of a figure that each file has: the middle, the 95th percentile, the largest, and whose that is."""
    pairs = sorted(measured)
    values = [value for value, _ in pairs]
    return {
        "median": round(statistics.median(values), 3),
        "p95": round(values[int(0.95 * (len(values) - 1))], 3),
        "most": round(values[-1], 3),
        "which": Path(pairs[-1][1]).name,
    }


def _spent_rows(spreads: Mapping[str, Mapping[str, Any]]) -> list[list[object]]:
    return [[name, *(spread[key] for key in ("median", "p95", "most", "which"))] for name, spread in spreads.items()]


def _kind(outcome: VideoOutcome) -> str:
    """A reason without the name of the file."""
    return (outcome.reason or "").replace(str(Path(outcome.video).parent), "").split(": ", 1)[-1][:80]


def _rows(summary: RunSummary) -> list[list[object]]:
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in summary.outcomes:
        table[Path(outcome.video).name.split("-")[1]][outcome.status] += 1
    return [
        [name, *(counts[status] for status in ("done", "partial", "skipped", "failed"))]
        for name, counts in sorted(table.items())
    ]


if __name__ == "__main__":
    run_command(main)
