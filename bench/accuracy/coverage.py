"""The selectors on questions with one and with several moments: does `coverage` win for several and keep one?

    python -m bench.accuracy.coverage --folder FOLDER [--split validation] [--budget 8 --budget 16] [--per-kind 4] \\
        [--out FILE]

Videos of the world of 5, 15 and 60 minutes (drawn, one frame a second), the shipped tiny CLIP's similarities, and GenS
simulated from the exact scores at a stated error rate (:mod:`bench.accuracy.coverage_cases` says how). A worse CLIP is
simulated as well. Every selector that goes by scores gets ``both``: GenS's score plus the similarity brought to 0..1,
so that GenS comes first and the similarity decides among equals; the most used ones also ``clip`` alone. `coverage`
gets the two apart. Evidence recall: the share of the scenes that answer of which a frame was selected; all-hit: the
share of questions of which no such scene is missing. Intervals and tests resample videos
(:mod:`bench.metrics.bootstrap`); p values are of each comparison alone, not corrected for how many there are.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.accuracy.coverage_cases import Case, Length, make_cases, noisy_similarities, simulated_gens
from bench.command import check_counts, make_parser, run_command
from bench.metrics.bootstrap import bootstrap_difference, bootstrap_mean
from bench.report import print_table, write_result
from hybrid.clip.registry import load_encoder
from hybrid.presets import PRESETS
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.ranking import check_budget, min_max
from hybrid.selectors.registry import SELECTORS, select
from hybrid.values import FloatArray, IntArray

__all__ = ["CONDITIONS", "METHODS", "Condition", "Scored", "methods_for", "moment_group", "run_methods", "score_cases"]

LENGTHS: Final = (Length(300.0, 24, 40), Length(900.0, 48, 16), Length(3600.0, 48, 5))


@dataclass(frozen=True, slots=True)
class Condition:
    """How good the scores are: noise of CLIP and error rate of GenS (None: it did not run)."""

    noise: float
    error: float | None

    @property
    def name(self) -> str:
        """For tables."""
        gens = "no GenS" if self.error is None else f"GenS {self.error:.0%} wrong"
        return f"CLIP +{self.noise:g} sd, {gens}" if self.noise else f"CLIP as it is, {gens}"


CONDITIONS: Final = (Condition(0.0, 0.2), Condition(1.0, 0.4), Condition(1.0, None))


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A case with the scores of a condition; ``gens`` is None where GenS did not run."""

    case: Case
    similarities: FloatArray
    gens: FloatArray | None


Method = Callable[[Scored, int], IntArray]


def score_cases(cases: Sequence[Case], condition: Condition) -> list[Scored]:
    """The scores of a condition; the same each time."""
    scored = []
    for index, case in enumerate(cases):
        error = -1 if condition.error is None else round(100 * condition.error)
        rng = np.random.default_rng([index, round(100 * condition.noise), error + 1])
        similarities = noisy_similarities(case, condition.noise, rng) if condition.noise else case.similarities
        gens = None
        if condition.error is not None:
            gens = simulated_gens(case, similarities, condition.error, rng).astype(np.float64)
        scored.append(Scored(case, similarities, gens))
    return scored


def _choose(name: str, only_clip: bool, scored: Scored, frames: int) -> IntArray:
    scores = scored.similarities
    if scored.gens is not None and not only_clip:
        scores = scored.gens + min_max(scored.similarities)
    candidates = Candidates(
        seconds=scored.case.seconds,
        scores=scores,
        similarities=scored.similarities,
        gens_scores=None if only_clip else scored.gens,
        embeddings=scored.case.embeddings,
        query=scored.case.query,
        score_frames=scores.__getitem__,
    )
    return select(name, candidates, frames)


def _gens_alone(scored: Scored, frames: int) -> IntArray:
    scores = np.zeros(len(scored.similarities)) if scored.gens is None else scored.gens
    return select("best_first", Candidates(seconds=scored.case.seconds, scores=scores), frames)


def _methods() -> dict[str, Method]:
    methods: dict[str, Method] = {}
    for name in SELECTORS.names:
        selector = SELECTORS.find(name)
        if "prompts" in selector.needs or name == "best_first":
            continue
        if not selector.uses_scores:
            methods[name] = partial(_choose, name, True)
            continue
        if name in ("top_k", "aks", "bolt", "tass", "coverage"):
            methods[f"{name} clip"] = partial(_choose, name, True)
        methods[f"{name} both"] = partial(_choose, name, False)
    return {**methods, "best_first gens": _gens_alone}


METHODS: Final[Mapping[str, Method]] = _methods()


def methods_for(condition: Condition) -> dict[str, Method]:
    """The methods that can be compared under a condition.

    The errors of a worse CLIP are made on its similarities. A rule that compares the embeddings with the question
    itself would not have them, so it is left out there.
    """
    if not condition.noise:
        return dict(METHODS)
    unfair = {name for name in SELECTORS.names if "query" in SELECTORS.find(name).needs}
    return {name: method for name, method in METHODS.items() if name.split()[0] not in unfair}


def moment_group(case: Case) -> str:
    """``1``, ``2`` or ``3+``."""
    return str(len(case.moments)) if len(case.moments) < 3 else "3+"


@dataclass(slots=True)
class Outcome:
    """What a method did for each question, in order."""

    recalls: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    def values(self, measure: str, rows: Sequence[int]) -> list[float]:
        """``recall`` or ``all_hit`` of some questions."""
        return [self.recalls[row] if measure == "recall" else float(self.recalls[row] == 1.0) for row in rows]


def run_methods(scored: Sequence[Scored], methods: Mapping[str, Method], frames: int) -> dict[str, Outcome]:
    """Every method on every question."""
    outcomes = {name: Outcome() for name in methods}
    for question in scored:
        for name, method in methods.items():
            started = time.process_time()
            rows = method(question, frames)
            outcomes[name].milliseconds.append(1000 * (time.process_time() - started))
            outcomes[name].recalls.append(question.case.recall(rows))
    return outcomes


def _groups(cases: Sequence[Case]) -> dict[str, list[int]]:
    """Places of the questions by number of moments, of all, and by kind and length of the video."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, case in enumerate(cases):
        groups[f"{moment_group(case)} moments" if len(case.moments) > 1 else "1 moment"].append(index)
        groups["all"].append(index)
        groups[f"kind {case.kind}"].append(index)
        groups[f"{case.length_seconds / 60:g} min"].append(index)
    return dict(sorted(groups.items()))


OURS: Final = "coverage both"
TABLE: Final = ("1 moment", "2 moments", "3+ moments", "all")
MEASURES: Final = ("recall", "all_hit")
RESAMPLES: Final = 2000


def _summary(cases: Sequence[Case], outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Means and, for the groups of the table, their intervals; and how `coverage` differs from every other method.

    A mean is [value, low, high], or the value alone; a difference [value, low, high, p]. Rounded, as shares.
    """
    videos = [case.video for case in cases]
    groups = _groups(cases)
    means: dict[str, Any] = {}
    for name, outcome in outcomes.items():
        means[name] = {"median_milliseconds": round(statistics.median(outcome.milliseconds), 2)}
        for group, rows in groups.items():
            values = {measure: outcome.values(measure, rows) for measure in MEASURES}
            own = [videos[row] for row in rows]
            means[name][group] = {
                measure: _mean(given, own) if group in TABLE else round(statistics.fmean(given), 4)
                for measure, given in values.items()
            }
    compared = [name for name in outcomes if name != OURS and OURS in outcomes]
    differences = {
        name: {
            group: {measure: _difference(outcomes, name, measure, groups[group], videos) for measure in MEASURES}
            for group in TABLE
            if group in groups
        }
        for name in compared
    }
    return {"methods": means, "coverage_minus": differences}


def _mean(values: Sequence[float], videos: Sequence[str]) -> list[float]:
    found = bootstrap_mean(values, videos, resamples=RESAMPLES)
    return [round(number, 4) for number in (found.value, found.low, found.high)]


def _difference(
    outcomes: Mapping[str, Outcome], other: str, measure: str, rows: Sequence[int], videos: Sequence[str]
) -> list[float]:
    ours, theirs = (outcomes[name].values(measure, rows) for name in (OURS, other))
    found = bootstrap_difference(ours, theirs, [videos[row] for row in rows], resamples=RESAMPLES)
    return [round(number, 4) for number in (found.value, found.low, found.high, found.p_value)]


def _print(title: str, summary: Mapping[str, Any]) -> None:
    methods = summary["methods"]
    groups = [group for group in TABLE if group in next(iter(methods.values()))]
    rows = []
    for name, figures in methods.items():
        cells = [f"{100 * figures[g]['recall'][0]:5.1f} / {100 * figures[g]['all_hit'][0]:5.1f}" for g in groups]
        versus = summary["coverage_minus"].get(name, {}).get("3+ moments", {}).get("all_hit")
        against = ""
        if versus is not None:
            against = "{:+.1f} [{:.1f}, {:.1f}], p {:.4f}".format(*(100 * part for part in versus[:3]), versus[3])
        rows.append([name, *cells, against, f"{figures['median_milliseconds']:.1f}"])
    print(f"\n{title}: recall / all-hit in %")
    print_table(["method", *groups, "coverage both - it, all-hit 3+, p", "ms"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="embeddings lie here")
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--budget", type=int, action="append", help="by default 8, 16 and 32")
    parser.add_argument("--per-kind", type=int, default=4, help="most questions of a kind about a video")
    parser.add_argument("--first-seed", type=int, default=0, help="of the videos of each length")
    parser.add_argument("--videos", type=int, nargs=len(LENGTHS), help="of each length; by default 40 16 5")
    parser.add_argument("--encoder", help="by default the tiny preset's")
    given = parser.parse_args(argv)
    check_counts(given, "per_kind", "videos")
    budgets = [check_budget(frames) for frames in given.budget or (8, 16, 32)]
    encoder = load_encoder(given.encoder or PRESETS["tiny"].encoder, device="auto")
    lengths = [replace(LENGTHS[index], videos=count) for index, count in enumerate(given.videos or ())] or LENGTHS
    make = partial(make_cases, per_kind=given.per_kind, first_seed=given.first_seed)
    cases = [case for length in lengths for case in make(given.split, length, encoder, given.folder)]
    results: dict[str, Any] = {}
    for condition in CONDITIONS:
        scored = score_cases(cases, condition)
        for frames in budgets:
            summary = _summary(cases, run_methods(scored, methods_for(condition), frames))
            results.setdefault(condition.name, {})[str(frames)] = summary
            _print(f"{condition.name}, {frames} frames", summary)
    write_result(
        "coverage",
        {
            "split": given.split,
            "first_seed": given.first_seed,
            "lengths": [asdict(length) for length in lengths],
            "questions": {group: len(rows) for group, rows in _groups(cases).items()},
            "encoder": dict(encoder.identity),
            "gens": "simulated",
            "results": results,
        },
        given.out,
    )


if __name__ == "__main__":
    run_command(main)
