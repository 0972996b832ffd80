"""Moment recall of published selections on LongVideoBench: which methods show the moments that questions refer to.

``python -m bench.accuracy.moments [--data FOLDER] [--resamples 10000] [--out FILE]``

FOLDER holds ``lvb_val.json`` (the benchmark's own file) and ``published_selections.jsonl`` (frames that the authors of
AKS and TSPO published). No video and no model is needed. Times of frames are native number / native rate, times of
moments are position / 24; the uniform baseline takes all of AKS's candidates where they fit the budget, else evenly
spaced frames from the first to the last.

micro: share of moments; macro: mean over questions; all-hit: share of questions with every moment shown. Intervals
and tests resample videos (see :mod:`bench.metrics.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.command import make_parser, run_command
from bench.datasets.longvideobench import load_longvideobench
from bench.datasets.lvb_selections import PublishedSelections, load_published_selections
from bench.datasets.question import Question
from bench.metrics.bootstrap import RESAMPLES, Estimate, bootstrap_difference, bootstrap_mean, check_resamples
from bench.metrics.nearest import evidence_distances
from bench.report import print_table, write_result
from hybrid.values import FloatArray

__all__ = ["METHODS", "TOLERANCES", "Case", "groups", "load_cases", "measure", "measure_by_moments"]

DEFAULT_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "longvideobench"
TOLERANCES = (1.0, 2.0, 5.0)
ALL_HIT_TOLERANCE = 2.0
LONG = 64
"""More candidates than the largest budget: only there does a method choose at all."""

METHODS: Mapping[str, Callable[[PublishedSelections], FloatArray]] = {
    "AKS-64": lambda row: row.seconds("aks_64"),
    "TSPO-64": lambda row: row.seconds("tspo_64"),
    "uniform-64": lambda row: row.uniform_seconds(64),
    "AKS-32": lambda row: row.seconds("aks_32"),
    "uniform-32": lambda row: row.uniform_seconds(32),
}
COMPARED = (("AKS-64", "uniform-64"), ("TSPO-64", "uniform-64"), ("TSPO-64", "AKS-64"), ("AKS-32", "uniform-32"))


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One question.

    Attributes:
        question: with the moments of its evidence.
        candidates: how many frames AKS chose from.
        distances: for each method float64 [M], seconds from each moment to the nearest selected frame.
    """

    question: Question
    candidates: int
    distances: Mapping[str, FloatArray]

    @property
    def distinct_moments(self) -> int:
        """How many different moments the question refers to."""
        return len(set(self.question.moments_seconds))


def load_cases(data: Path) -> list[Case]:
    """The questions that have a moment, with the distances of all methods.

    Raises:
        DatasetError: a file is missing or damaged.
    """
    questions = load_longvideobench(data)
    rows = load_published_selections(data, questions)
    return [
        Case(
            question,
            row.candidates,
            {name: evidence_distances(seconds(row), question.moments_seconds) for name, seconds in METHODS.items()},
        )
        for question, row in zip(questions, rows, strict=True)
        if question.moments_seconds
    ]


def groups(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """The groups of the table: all, by length of the video, and where there is something to choose."""
    by_length = {
        f"group {length}": [case for case in cases if case.question.labels["duration_group"] == length]
        for length in ("15", "60", "600", "3600")
    }
    return {"all": list(cases), **by_length, f"candidates > {LONG}": _long(cases)}


def measure(cases: Sequence[Case], method: str, *, resamples: int) -> dict[str, dict[str, Estimate]]:
    """Micro and macro recall at each tolerance, as shares: ``{"micro": {"1": ...}, "macro": ...}``."""
    estimates: dict[str, dict[str, Estimate]] = {"micro": {}, "macro": {}}
    for tolerance in TOLERANCES:
        recalls, counts = _recalls(cases, method, tolerance)
        estimate = partial(bootstrap_mean, recalls, _videos(cases), resamples=resamples)
        estimates["micro"][f"{tolerance:g}"] = estimate(weights=counts)
        estimates["macro"][f"{tolerance:g}"] = estimate()
    return estimates


def measure_by_moments(cases: Sequence[Case], method: str, *, resamples: int) -> dict[str, dict[str, Estimate]]:
    """Macro recall and all-hit by the number of different moments (1, 2, 3+), long videos only."""
    rows = {}
    for name, part in _by_moments(cases).items():
        row = {}
        for tolerance in TOLERANCES:
            recalls, _ = _recalls(part, method, tolerance)
            row[f"recall@{tolerance:g}"] = bootstrap_mean(recalls, _videos(part), resamples=resamples)
        hits = _all_hits(part, method)
        row[f"all-hit@{ALL_HIT_TOLERANCE:g}"] = bootstrap_mean(hits, _videos(part), resamples=resamples)
        rows[name] = row
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    arguments = parser.parse_args(argv)
    check_resamples(arguments.resamples)
    cases = load_cases(arguments.data)
    resamples = arguments.resamples
    table = {
        name: {method: measure(part, method, resamples=resamples) for method in METHODS}
        for name, part in groups(cases).items()
    }
    by_moments = {method: measure_by_moments(cases, method, resamples=resamples) for method in METHODS}
    differences = {
        name: _differences(part, resamples) for name, part in groups(cases).items() if len(part) > len(cases) / 4
    }
    several = _several_moments(cases, resamples)
    _print(cases, table, by_moments, differences, several)
    write_result(
        "moments",
        {
            "settings": {"resamples": resamples, "questions": len(cases), "tolerances_seconds": TOLERANCES},
            "recall": _plain(table),
            "by_distinct_moments": _plain(by_moments),
            "differences": differences,
            "all_hit_of_three_or_more": several,
        },
        arguments.out,
    )


def _long(cases: Sequence[Case]) -> list[Case]:
    return [case for case in cases if case.candidates > LONG]


def _by_moments(cases: Sequence[Case]) -> dict[str, list[Case]]:
    long = _long(cases)
    return {
        "1": [case for case in long if case.distinct_moments == 1],
        "2": [case for case in long if case.distinct_moments == 2],
        "3+": [case for case in long if case.distinct_moments >= 3],
    }


def _videos(cases: Sequence[Case]) -> list[str]:
    return [case.question.video for case in cases]


def _recalls(cases: Sequence[Case], method: str, tolerance: float) -> tuple[FloatArray, FloatArray]:
    counts = np.array([len(case.distances[method]) for case in cases])
    hits = np.concatenate([case.distances[method] for case in cases]) <= tolerance
    starts = np.cumsum(counts) - counts
    recalls: FloatArray = np.add.reduceat(hits.astype(np.float64), starts) / counts
    weights: FloatArray = counts.astype(np.float64)
    return recalls, weights


def _all_hits(cases: Sequence[Case], method: str) -> FloatArray:
    recalls, _ = _recalls(cases, method, ALL_HIT_TOLERANCE)
    hits: FloatArray = (recalls == 1.0).astype(np.float64)
    return hits


def _differences(cases: Sequence[Case], resamples: int) -> list[dict[str, Any]]:
    rows = []
    for first, second in COMPARED:
        for tolerance in TOLERANCES:
            a, counts = _recalls(cases, first, tolerance)
            b, _ = _recalls(cases, second, tolerance)
            difference = bootstrap_difference(a, b, _videos(cases), weights=counts, resamples=resamples)
            rows.append({"first": first, "second": second, "tolerance_seconds": tolerance, **asdict(difference)})
    return rows


def _several_moments(cases: Sequence[Case], resamples: int) -> list[dict[str, Any]]:
    """All-hit where three moments or more are needed, against uniform."""
    part = _by_moments(cases)["3+"]
    rows = []
    for first, second in COMPARED:
        difference = bootstrap_difference(
            _all_hits(part, first), _all_hits(part, second), _videos(part), resamples=resamples
        )
        rows.append({"first": first, "second": second, **asdict(difference)})
    return rows


def _plain(values: Any) -> Any:
    if isinstance(values, Estimate):
        return asdict(values)
    return {key: _plain(value) for key, value in values.items()}


def _print(
    cases: Sequence[Case],
    table: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Estimate]]]],
    by_moments: Mapping[str, Mapping[str, Mapping[str, Estimate]]],
    differences: Mapping[str, Sequence[Mapping[str, Any]]],
    several: Sequence[Mapping[str, Any]],
) -> None:
    print(f"recall in % within {_slashes(TOLERANCES, 'g')} s: micro (macro)")
    print_table(
        ["", *METHODS],
        [
            [
                f"{name} ({len(part)} questions)",
                *(f"{_percent(table[name][m]['micro'])} ({_percent(table[name][m]['macro'])})" for m in METHODS),
            ]
            for name, part in groups(cases).items()
        ],
    )
    print("\n95 % intervals of micro recall, videos resampled")
    print_table(
        ["", *METHODS],
        [[name, *(_intervals(row[method]["micro"]) for method in METHODS)] for name, row in table.items()],
    )
    print(f"\nby number of different moments (candidates > {LONG}): macro recall, all-hit within 2 s")
    print_table(
        ["moments", *METHODS],
        [
            [f"{name} ({len(part)} questions)", *(_by_moments_cell(by_moments[method][name]) for method in METHODS)]
            for name, part in _by_moments(cases).items()
        ],
    )
    print("\ndifferences in points of micro recall [95 %], p of the paired test")
    for name, rows in differences.items():
        for row in rows:
            print(f"{name}: {row['first']} - {row['second']} @{row['tolerance_seconds']:g} s: {_difference(row)}")
    for row in several:
        print(f"all-hit, 3+ moments: {row['first']} - {row['second']}: {_difference(row)}")


def _slashes(values: Sequence[float], form: str) -> str:
    return "/".join(f"{value:{form}}" for value in values)


def _percent(estimates: Mapping[str, Estimate]) -> str:
    return _slashes([100 * estimate.value for estimate in estimates.values()], ".1f")


def _intervals(estimates: Mapping[str, Estimate]) -> str:
    return " ".join(f"[{100 * e.low:.1f} {100 * e.high:.1f}]" for e in estimates.values())


def _by_moments_cell(row: Mapping[str, Estimate]) -> str:
    *recalls, hits = row.values()
    recall = _slashes([100 * e.value for e in recalls], ".1f")
    return f"{recall}, {100 * hits.value:.1f} [{100 * hits.low:.1f} {100 * hits.high:.1f}]"


def _difference(row: Mapping[str, Any]) -> str:
    return f"{100 * row['value']:+.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}], p {row['p_value']:.4f}"


if __name__ == "__main__":
    run_command(main)
