"""This checkout against an earlier one: the same work by both in turn, and an interval for the ratio of their times.

``python -m bench.latency.two_versions --old CHECKOUT [--pairs 9] [--only sampling|search|questions] [--out FILE]``

CHECKOUT is a folder with the earlier version (``git worktree add ../earlier COMMIT``). Both run under this
process's interpreter, so with the same packages; only the code differs. Each pair runs both versions once, in
alternating order, each in a process of its own. A ratio is the old time divided by the new one: above 1 the new
version is faster. The interval is of the geometric mean over pairs, by bootstrap (95 %).

Sampling: the clips of :mod:`bench.latency.index` at one frame a second, one decoding thread, CPU seconds.
Search: archives of the same made-up vectors, each filled by the version that searches it, as
:mod:`bench.latency.search_probe` measures it.
Questions: the bundled video is indexed and asked, as :mod:`bench.latency.question_probe` measures it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.command import make_parser, run_command
from bench.latency.videos import CLIPS, make_clip
from bench.report import print_table, write_result

__all__ = ["Ratio", "main", "ratio_of_pairs"]

HERE = Path(__file__).resolve().parent.parent.parent
LEAST_UPPER_END = 0.97
"""A version counts as slower if the whole interval lies below this."""
RESAMPLES = 10_000
CLIP_SECONDS = 60
DIMENSION = 512


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times faster the new version is.

    Attributes:
        value: geometric mean over pairs of old time / new time.
        low, high: ends of the 95 % bootstrap interval.
        pairs: how many.
    """

    value: float
    low: float
    high: float
    pairs: int


def ratio_of_pairs(old: Sequence[float], new: Sequence[float], *, seed: int = 0) -> Ratio:
    """The ratio of paired times with its interval.

    Args:
        old, new: seconds (or any one unit), positive, one a pair.
        seed: of the resampling.
    """
    logs = np.log(np.asarray(old, dtype=np.float64) / np.asarray(new, dtype=np.float64))
    draws = np.random.default_rng(seed).choice(logs, (RESAMPLES, len(logs))).mean(axis=1)
    low, high = np.exp(np.quantile(draws, [0.025, 0.975]))
    return Ratio(float(np.exp(logs.mean())), float(low), float(high), len(logs))


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--old", type=Path, required=True, help="folder with the earlier checkout")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--only", choices=["sampling", "search", "questions"], help="default: all")
    parser.add_argument("--size", default="100x3600", help="videos x frames of each, of the searched archives")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hybrid-bench-videos")
    arguments = parser.parse_args(argv)
    old = arguments.old.resolve()
    load_before = os.getloadavg()[0]
    rows: list[dict[str, Any]] = []
    if arguments.only in (None, "sampling"):
        rows += _sampling(old, arguments.pairs, arguments.folder)
    if arguments.only in (None, "search"):
        rows += _search(old, arguments.pairs, arguments.size, arguments.folder)
    if arguments.only in (None, "questions"):
        rows += _questions(old, arguments.pairs)
    cells = [
        (r["what"], r["time"], f"{r['value']:.3f}", f"{r['low']:.3f} .. {r['high']:.3f}", r["pairs"], r["as_fast"])
        for r in rows
    ]
    print_table(["what", "time", "old / new", "95 %", "pairs", f"upper end above {LEAST_UPPER_END}"], cells)
    loads = [load_before, os.getloadavg()[0]]
    write_result(
        "two_versions", {"old_commit": _commit(old), "load_before_and_after": loads, "rows": rows}, arguments.out
    )


def _sampling(old: Path, pairs: int, folder: Path) -> list[dict[str, Any]]:
    rows = []
    for clip in CLIPS:
        path = make_clip(clip, folder, seconds=CLIP_SECONDS)
        command = ["bench/latency/decoding.py", "exact", str(path), "1", "0"]
        both = {old: command, HERE: command}
        rows += _rows(f"sampling {clip.name}", _in_turn(old, both, pairs), ["cpu_seconds", "wall_seconds"])
    return rows


def _search(old: Path, pairs: int, size: str, folder: Path) -> list[dict[str, Any]]:
    rows = []
    for backend in ("faiss", "lancedb"):
        archives = {}
        for checkout in (old, HERE):
            archives[checkout] = folder / f"two-versions-{_commit(checkout)}-{backend}-{size}"
            if not archives[checkout].exists():
                _run(checkout, ["-c", _FILL, str(archives[checkout]), size, backend, str(DIMENSION)])
        for kind in ("exact", "approximate"):
            command = {
                checkout: ["bench/latency/search_probe.py", str(archive), kind, str(DIMENSION)]
                for checkout, archive in archives.items()
            }
            names = ["cold_ms", "cold_cpu_ms", "warm_ms", "warm_cpu_ms"]
            rows += _rows(f"search {size}, {backend}, {kind}", _in_turn(old, command, pairs), names)
    return rows


def _questions(old: Path, pairs: int) -> list[dict[str, Any]]:
    command = ["bench/latency/question_probe.py"]
    both = _in_turn(old, {old: command, HERE: command}, pairs)
    return _rows("the bundled video", both, sorted(both[0][0]))


_FILL = """
import argparse, sys
from pathlib import Path
try:
    from bench.latency.archive.filling import fill
except ModuleNotFoundError:  # an earlier version
    from bench.latency.archive import fill
fill(Path(sys.argv[1]), sys.argv[2], argparse.Namespace(backend=sys.argv[3], dimension=int(sys.argv[4]), shake=0.04))
"""

# Not "python FILE": that puts the file's folder first on the path, where selectors.py hides the standard module.
_RUN_FILE = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"

Measured = Mapping[str, float]


def _in_turn(old: Path, command: Mapping[Path, Sequence[str]], pairs: int) -> list[tuple[Measured, Measured]]:
    """What both versions print, pair by pair; which one is first alternates."""
    runs: dict[str, Callable[[], Measured]] = {
        "old": lambda: json.loads(_run(old, command[old])),
        "new": lambda: json.loads(_run(HERE, command[HERE])),
    }
    found = []
    for number in range(pairs):
        order = ("old", "new") if number % 2 else ("new", "old")
        one = {name: runs[name]() for name in order}
        found.append((one["old"], one["new"]))
    return found


def _run(checkout: Path, command: Sequence[str]) -> str:
    """The last line that this checkout's code prints. Scripts are this version's own, so that both do the same."""
    arguments = ["-c", _RUN_FILE, str(HERE / command[0]), *command[1:]] if command[0] != "-c" else list(command)
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=checkout, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} in {checkout} ended with {done.returncode}:\n{done.stderr}")
    return (done.stdout.splitlines() or [""])[-1]


def _rows(what: str, pairs: Sequence[tuple[Measured, Measured]], names: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for name in names:
        before, after = [old[name] for old, _ in pairs], [new[name] for _, new in pairs]
        ratio = ratio_of_pairs(before, after)
        medians = {"old_median": float(np.median(before)), "new_median": float(np.median(after))}
        as_fast = ratio.high > LEAST_UPPER_END
        rows.append({"what": what, "time": name, **asdict(ratio), **medians, "as_fast": as_fast})
        print(f"{what}, {name}: {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]", file=sys.stderr, flush=True)
    return rows


def _commit(checkout: Path) -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=checkout)
    return done.stdout.strip()[:12]


if __name__ == "__main__":
    run_command(main)
