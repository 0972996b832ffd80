"""Hostile inputs: how each ends, how long it takes, and how much memory, beside a sound input of the same command.

``python -m bench.robustness.hostile [--count 300] [--seed 0] [--kind images ...] [--out FILE]``

Images (bombs, 16 bits, cut, animated), playlists, folders (loops, hidden, odd names), packages and JSON documents are
made from a seed. Each goes through the command line's own entry, in a process of its own. None may end with a
traceback, take more than 10 s longer than the sound command of its verb, or more than 1 GB of memory beyond it; what
has to be refused must end with an exit code, and leave an archive with which everything else still works.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.command import make_parser, run_command
from bench.report import print_table, write_result
from bench.robustness.hostile_case import KINDS, Case, Kind, Maker, clean_cases, prepare
from bench.robustness.hostile_documents import DOCUMENTS
from bench.robustness.hostile_media import FOLDERS, IMAGES, PLAYLISTS
from bench.robustness.hostile_packages import PACKAGES
from bench.robustness.hostile_run import Outcome, Runner

__all__ = ["MAKERS", "Verdict", "main", "run_hostile"]

MOST_SECONDS = 10.0
"""Beyond the sound command."""

MOST_MB = 1024.0
"""Beyond the sound command."""

MAKERS: Mapping[Kind, tuple[Maker, ...]] = {
    "images": IMAGES,
    "playlists": PLAYLISTS,
    "folders": FOLDERS,
    "packages": PACKAGES,
    "documents": DOCUMENTS,
}
_SHARES: Mapping[Kind, int] = {"images": 4, "playlists": 4, "folders": 3, "packages": 8, "documents": 11}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a hostile input ended.

    Attributes:
        case: what it was.
        outcome: of its command.
        more_seconds, more_mb: than the sound command took.
        faults: what must not have happened, in words; empty if all is well.
    """

    case: Case
    outcome: Outcome
    more_seconds: float
    more_mb: float
    faults: tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Run and report; 1 if something happened that must not."""
    parser = make_parser(__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, action="append", help="may come many times; all if none")
    given = parser.parse_args(argv)
    kinds = tuple(given.kind or KINDS)
    share = sum(_SHARES[kind] for kind in kinds)
    counts = {kind: round(given.count * _SHARES[kind] / share) for kind in kinds}
    verdicts = []
    for verdict in run_hostile(counts, seed=given.seed):
        verdicts.append(verdict)
        if verdict.faults:
            print(f"{verdict.case.kind}: {verdict.case.name}: {'; '.join(verdict.faults)}", flush=True)
            print(f"    {verdict.outcome.output[-1500:]}", flush=True)
    result = describe(verdicts)
    print_table(["kind", "inputs", "exit codes", "faults", "most s", "most MB"], _rows(result["kinds"]))
    write_result("hostile", {"load_at_end": os.getloadavg()[2], "seed": given.seed, **result}, given.out)
    return int(any(verdict.faults for verdict in verdicts))


def run_hostile(counts: Mapping[Kind, int], *, seed: int) -> Iterator[Verdict]:
    """Make hostile inputs from a seed and run them, after the sound command of each verb.

    Args:
        counts: how many of each kind; the makers of a kind take turns.
        seed: the same seed gives the same inputs.
    """
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        root, runner = Path(name), Runner()
        ground = prepare(root / "ground")
        sound: dict[str, Outcome] = {}
        clean = clean_cases(ground, root / "clean")
        for kind, count in counts.items():
            makers = random.Random(f"{seed} {kind}").sample(MAKERS[kind], len(MAKERS[kind]))
            for number in range(count):
                folder = root / f"{kind}-{number}"
                folder.mkdir()
                case = makers[number % len(makers)](ground, folder, random.Random(f"{seed} {kind} {number}"))
                if case.clean not in sound:
                    sound[case.clean] = runner.run(clean[case.clean].command, root / "clean")
                    _check_sound(case.clean, sound[case.clean])
                yield judge(case, sound[case.clean], runner, folder)
                shutil.rmtree(folder, ignore_errors=True)


def _check_sound(name: str, outcome: Outcome) -> None:
    """A sound command that fails would measure nothing. The benchmark's own, which reads a data set, has no run."""
    if outcome.has_traceback or (outcome.code and name != "dataset"):
        raise RuntimeError(f"the sound command {name} failed ({outcome.code}): {outcome.output[-1000:]}")


def judge(case: Case, sound: Outcome, runner: Runner, folder: Path) -> Verdict:
    """Run a case and what comes after it."""
    outcome = runner.run(case.command, folder)
    more_seconds, more_mb = outcome.seconds - sound.seconds, outcome.peak_mb - sound.peak_mb
    faults = []
    if outcome.has_traceback:
        faults.append(f"traceback, or killed (exit code {outcome.code})")
    elif case.refused and outcome.code == 0:
        faults.append("not refused")
    elif outcome.code and not outcome.output.strip():
        faults.append(f"exit code {outcome.code} without a word")
    if more_seconds > MOST_SECONDS:
        faults.append(f"{more_seconds:.1f} s more than the sound command")
    if more_mb > MOST_MB:
        faults.append(f"{more_mb:.0f} MB more than the sound command")
    for command in case.after:
        after = runner.run(command, folder)
        if after.code or after.has_traceback:
            faults.append(f"hybrid {command[0]} afterwards: exit code {after.code}: {after.output[-300:]}")
    return Verdict(case, outcome, more_seconds, more_mb, tuple(faults))


def describe(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The figures, by kind."""
    kinds = {}
    for kind in dict.fromkeys(verdict.case.kind for verdict in verdicts):
        these = [verdict for verdict in verdicts if verdict.case.kind == kind]
        slowest = max(these, key=lambda verdict: verdict.more_seconds)
        largest = max(these, key=lambda verdict: verdict.more_mb)
        kinds[kind] = {
            "inputs": len(these),
            "different": len({verdict.case.name for verdict in these}),
            "exit_codes": dict(sorted(Counter(str(verdict.outcome.code) for verdict in these).items())),
            "tracebacks": sum(verdict.outcome.has_traceback for verdict in these),
            "faults": sum(bool(verdict.faults) for verdict in these),
            "most_seconds_beyond_sound": {"seconds": round(slowest.more_seconds, 2), "which": slowest.case.name},
            "most_mb_beyond_sound": {"mb": round(largest.more_mb, 1), "which": largest.case.name},
        }
    faulty = [verdict for verdict in verdicts if verdict.faults]
    return {
        "inputs": len(verdicts),
        "limits": {"seconds_beyond_sound": MOST_SECONDS, "mb_beyond_sound": MOST_MB},
        "kinds": kinds,
        "faults": [{"kind": v.case.kind, "name": v.case.name, "faults": list(v.faults)} for v in faulty],
    }


def _rows(kinds: Mapping[str, Mapping[str, Any]]) -> list[list[object]]:
    return [
        [
            kind,
            found["inputs"],
            " ".join(f"{code}:{count}" for code, count in found["exit_codes"].items()),
            found["faults"],
            found["most_seconds_beyond_sound"]["seconds"],
            found["most_mb_beyond_sound"]["mb"],
        ]
        for kind, found in kinds.items()
    ]


if __name__ == "__main__":
    run_command(main)
