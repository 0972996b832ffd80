"""What a run found: a table with intervals, differences that are paired by question, and what went wrong.

Everything is resampled by video (:mod:`bench.metrics.bootstrap`). A method's mean is over the questions that it has a
number for; a difference is over those that both methods have one for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from bench.accuracy.run.measures import ACCURACY, TEMPORAL, VISUAL
from bench.accuracy.run.record import Sample
from bench.datasets.question import Question
from bench.metrics.bootstrap import RESAMPLES, Difference, Estimate, bootstrap_difference, bootstrap_mean
from bench.metrics.lv_haystack_temporal import TemporalScore, temporal_means
from bench.metrics.lv_haystack_visual import VisualScore, visual_means
from bench.metrics.qa_accuracy import Accuracy, qa_accuracy

__all__ = [
    "Samples",
    "build_report",
    "difference_text",
    "interval_text",
    "p_value_text",
    "report_lines",
    "report_notes",
]

Samples = Mapping[tuple[str, str], Sample]

ALL: Final = "all"
STEPS: Final = ("select", "frames", "answer")
FEWEST_VIDEOS: Final = 6
"""With five, the signs of their differences can be exchanged in 32 ways only, so that no p is below 0.06."""
TOO_FEW: Final = (
    f"no interval and no p for fewer than {FEWEST_VIDEOS} videos: resampling so few videos says nothing about others"
)
_STATE: Final = ("questions", "videos", "failed", "degraded", "frames", "s median", "s p95")


def build_report(
    samples: Samples,
    questions: Sequence[Question],
    methods: Sequence[str],
    *,
    by: Iterable[str] = (),
    resamples: int = RESAMPLES,
    steps: Sequence[str] = STEPS,
) -> dict[str, Any]:
    """All figures of a run, ready for ``json.dumps``.

    Args:
        samples: by method and question; those that are not done yet are missing.
        questions: what was asked.
        methods: in the order of the table. The first is compared with each of the others.
        by: labels by which the questions are grouped besides.
        resamples: how often the videos are drawn.
        steps: whose times are reported.
    """
    groups = {ALL: list(questions), **_groups(questions, by)}
    names = _measure_names(samples.values())
    measures = {
        group: {
            method: {name: estimate for name in names if (estimate := _mean(samples, part, method, name, resamples))}
            for method in methods
        }
        for group, part in groups.items()
    }
    differences = {
        group: {
            name: {
                other: asdict(difference)
                for other in methods[1:]
                if (difference := _difference(samples, part, (methods[0], other), name, resamples))
            }
            for name in names
        }
        for group, part in groups.items()
    }
    return {
        "questions": len(questions),
        "videos": len({question.video for question in questions}),
        "methods": {method: _state(samples, questions, method, steps) for method in methods},
        "measures": {
            group: {method: {name: asdict(estimate) for name, estimate in row.items()} for method, row in rows.items()}
            for group, rows in measures.items()
        },
        "differences": {"first": methods[0], "to": differences[ALL], "by_group": differences},
    }


_LEFT_OUT: Final = ("precision", *TEMPORAL, *VISUAL)
"""Measures that have no column: precision follows from the budget, the others have a table of their own."""
_HAYSTACK: Final = ("method", "temporal P", "R", "F1", "questions", "left out", "visual P", "R", "F1")


def _haystack_lines(haystack: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    lines = []
    for method, found in haystack.items():
        temporal, visual = found["temporal"], found["visual"]
        lines.append(
            [
                method,
                *(_figure(temporal[name], ".3f") for name in ("precision", "recall", "f1")),
                str(temporal["questions"]),
                str(temporal["left_out"]),
                *(_figure(None if visual is None else visual[name], ".3f") for name in ("precision", "recall", "f1")),
            ]
        )
    return lines


def report_lines(report: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """The report as tables for people: title, header, rows. :func:`report_notes` says what they leave out."""
    tables = []
    for group, rows in report["measures"].items():
        names = [name for name in _order(rows) if not name.startswith(_LEFT_OUT)]
        header = [
            "method",
            *(_STATE * (group == ALL)),
            *names,
        ]
        lines = []
        for method, row in rows.items():
            state = report["methods"][method]
            general = [
                str(state["done"]),
                str(state["videos"]),
                str(state["failed"]),
                str(state["degraded"]),
                _figure(state["mean_frames"], ".1f"),
                _figure(state["select_seconds"]["median"], ".3f"),
                _figure(state["select_seconds"]["p95"], ".3f"),
            ]
            lines.append([method, *(general * (group == ALL)), *(interval_text(row.get(name)) for name in names)])
        tables.append((group, header, lines))
    haystack = {method: state["lv_haystack"] for method, state in report["methods"].items() if state["lv_haystack"]}
    if haystack:
        tables.append(("LV-Haystack, as its authors' code computes it", list(_HAYSTACK), _haystack_lines(haystack)))
    first, to = report["differences"]["first"], report["differences"]["to"]
    lines = [
        [f"{first} - {other}", name, difference_text(difference), p_value_text(difference), *_counts(difference)]
        for name, row in to.items()
        for other, difference in row.items()
    ]
    if lines:
        tables.append(("differences", ["methods", "measure", "[95 %]", "p", "questions", "videos"], lines))
    return tables


def report_notes(report: Mapping[str, Any]) -> list[str]:
    """What is to be said below the tables: why some figures have no interval."""
    means = [e for rows in report["measures"].values() for row in rows.values() for e in row.values()]
    differences = [e for row in report["differences"]["to"].values() for e in row.values()]
    return [TOO_FEW] if any(e["videos"] < FEWEST_VIDEOS for e in (*means, *differences)) else []


def _groups(questions: Sequence[Question], by: Iterable[str]) -> dict[str, list[Question]]:
    groups: dict[str, list[Question]] = {}
    for label in by:
        for value in sorted({question.labels.get(label, "") for question in questions}):
            groups[f"{label}={value}"] = [q for q in questions if q.labels.get(label, "") == value]
    return groups


def _measure_names(samples: Iterable[Sample]) -> list[str]:
    return list(dict.fromkeys(name for sample in samples for name in sample.measures))


def _order(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows.values() for name in row))


def _pairs(samples: Samples, part: Sequence[Question], method: str, name: str) -> dict[str, tuple[float, str]]:
    """Value and video by question, where the method has the measure."""
    found = {}
    for question in part:
        sample = samples.get((method, question.id))
        if sample is not None and name in sample.measures:
            found[question.id] = (sample.measures[name], question.video)
    return found


def _mean(samples: Samples, part: Sequence[Question], method: str, name: str, resamples: int) -> Estimate | None:
    pairs = list(_pairs(samples, part, method, name).values())
    if not pairs:
        return None
    return bootstrap_mean([value for value, _ in pairs], [video for _, video in pairs], resamples=resamples)


def _difference(
    samples: Samples, part: Sequence[Question], methods: tuple[str, str], name: str, resamples: int
) -> Difference | None:
    first, second = (_pairs(samples, part, method, name) for method in methods)
    both = [key for key in first if key in second]
    if not both:
        return None
    return bootstrap_difference(
        [first[key][0] for key in both],
        [second[key][0] for key in both],
        [first[key][1] for key in both],
        resamples=resamples,
    )


def _state(samples: Samples, questions: Sequence[Question], method: str, steps: Sequence[str]) -> dict[str, Any]:
    """How many samples a method has, what became of them, and how long they took."""
    done = [sample for q in questions if (sample := samples.get((method, q.id))) is not None]
    chosen = [sample for sample in done if sample.selection is not None]
    accuracy = _accuracy(done, questions)
    reasons: dict[str, int] = {}
    for sample in done:
        if sample.failure is not None:
            reason = f"{sample.failure.step}: {sample.failure.reason}"
            reasons[reason] = reasons.get(reason, 0) + 1
    return {
        "done": len(done),
        "videos": len({sample.video for sample in done}),
        "failed": sum(sample.failure is not None for sample in done),
        "degraded": sum(bool(sample.degraded) for sample in done),
        "unreadable": 0 if accuracy is None else accuracy.unreadable,
        "qa_accuracy": None if accuracy is None else asdict(accuracy),
        "lv_haystack": _haystack(chosen),
        "mean_frames": _or_none(np.mean, [len(sample.selection["frames"]) for sample in chosen if sample.selection]),
        **{f"{step}_seconds": _spread(done, step) for step in steps},
        "failures": dict(sorted(reasons.items(), key=lambda item: -item[1])[:20]),
    }


def _accuracy(done: Sequence[Sample], questions: Sequence[Question]) -> Accuracy | None:
    """Of all questions that were answered and whose right option is known; None if there are none."""
    right = {question.id: question.answer for question in questions}
    pairs = [
        (sample.reply["option"], answer)
        for sample in done
        if sample.reply is not None and ACCURACY in sample.measures and (answer := right[sample.id]) is not None
    ]
    return qa_accuracy([option for option, _ in pairs], [answer for _, answer in pairs]) if pairs else None


def _haystack(chosen: Sequence[Sample]) -> dict[str, Any] | None:
    """LV-Haystack's numbers of a data set, with how many questions count in none of them; None if none has any."""
    temporal = [_temporal(sample.measures) for sample in chosen]
    if not any(temporal):
        return None
    pictures = [VisualScore(*(s.measures[n] for n in VISUAL)) for s in chosen if VISUAL[0] in s.measures]
    visual = visual_means(pictures)
    return {
        "temporal": asdict(temporal_means(temporal)),
        "visual": {**asdict(visual), "f1": visual.f1, "questions": len(pictures)} if pictures else None,
    }


def _temporal(measures: Mapping[str, float]) -> TemporalScore | None:
    if TEMPORAL[0] not in measures:
        return None
    share, found, f1 = (measures[name] for name in TEMPORAL)
    return TemporalScore(precision=share, recall=found, f1=f1)


def _spread(samples: Sequence[Sample], step: str) -> dict[str, float | None]:
    seconds = [sample.seconds[step] for sample in samples if step in sample.seconds]
    return {
        "median": _or_none(np.median, seconds),
        "p95": _or_none(lambda values: np.quantile(values, 0.95), seconds),
    }


def _or_none(figure: Any, values: Sequence[float]) -> float | None:
    return float(figure(values)) if values else None


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def interval_text(estimate: Mapping[str, Any] | None) -> str:
    """A mean with its interval, which is left out for too few videos; a dash for None."""
    if estimate is None:
        return "-"
    if estimate["videos"] < FEWEST_VIDEOS:
        return f"{estimate['value']:.3f}"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def difference_text(difference: Mapping[str, Any]) -> str:
    """The same of a difference, with its sign."""
    if difference["videos"] < FEWEST_VIDEOS:
        return f"{difference['value']:+.3f}"
    return f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"


def p_value_text(difference: Mapping[str, Any]) -> str:
    """Its p; a dash for too few videos."""
    return "-" if difference["videos"] < FEWEST_VIDEOS else f"{difference['p_value']:.4f}"


def _counts(difference: Mapping[str, Any]) -> tuple[str, str]:
    return str(difference["questions"]), str(difference["videos"])
