"""Index hundreds of damaged files: how each ends, how long the slowest takes, how much memory it takes.

``python -m bench.robustness.bad_videos SOURCES [--count 500] [--seed 0] [--workers 1] [--out FILE]``

SOURCES is a folder of good videos (short ones). The bad ones are made from them (see
:mod:`bench.robustness.mutate`) in a temporary folder and indexed by the engine's own run, with the
bundled small encoder, in processes of their own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.memory import most_resident_mb
from bench.report import circumstances, print_table, write_result
from bench.robustness.mutate import mutate_videos
from hybrid.engine.run import RunSummary, VideoOutcome
from hybrid.engine.workers import EngineRecipe, index_in_workers
from hybrid.progress import NullProgress, Progress
from indexes.archive import Archive
from indexes.checkup import check_up


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    sources = sorted(path for path in arguments.sources.iterdir() if path.is_file())
    with tempfile.TemporaryDirectory() as name:
        videos = mutate_videos(sources, Path(name) / "bad", arguments.count, seed=arguments.seed)
        archive = Path(name) / "archive"
        Archive.open(archive).close()
        recipe = EngineRecipe(str(archive), {"preset": "tiny", "device": "cpu"})
        with most_resident_mb(every_seconds=0.2) as most:
            summary = index_in_workers(recipe, videos, _Silent(), workers=arguments.workers)
        again = index_in_workers(recipe, videos, _Silent(), workers=arguments.workers)
        with Archive.open(archive, create=False) as opened:
            damaged = [finding.video_id for finding in check_up(opened) if finding.state != "sound"]
    result = describe(summary, again)
    print_table(["mutation", "done", "partial", "skipped", "failed"], _rows(summary))
    print(
        f"{len(summary.outcomes)} of {len(videos)} ended: {summary.counts()}; "
        f"slowest {result['slowest_seconds']:.1f} s; peak {most[0]:.0f} MB; {len(damaged)} indexes not sound"
    )
    write_result(
        {
            "benchmark": "bad_videos",
            **circumstances(),
            "sources": [path.name for path in sources],
            "videos": len(videos),
            "seed": arguments.seed,
            "workers": arguments.workers,
            **result,
            "peak_mb": round(most[0]),
            "not_sound": damaged,
        },
        arguments.out,
    )


def describe(summary: RunSummary, again: RunSummary) -> dict[str, Any]:
    """The figures of a run and of the one after it."""
    slowest = max(summary.outcomes, key=lambda outcome: outcome.seconds)
    return {
        "ended": len(summary.outcomes),
        "counts": summary.counts(),
        "without_reason": sum(1 for outcome in summary.failed if not outcome.reason),
        "seconds": round(summary.seconds, 1),
        "slowest_seconds": round(slowest.seconds, 2),
        "slowest": Path(slowest.video).name,
        "again_seconds": round(again.seconds, 1),
        "again_counts": again.counts(),
        "reasons": dict(Counter(_kind(outcome) for outcome in summary.failed).most_common(20)),
    }


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


class _Silent:
    """Is told and says nothing."""

    def progress(self, worker: int) -> Progress:
        return NullProgress()

    def outcome(self, outcome: VideoOutcome) -> None:
        if outcome.seconds > 30:
            print(f"{time.strftime('%X')} {outcome.video}: {outcome.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
