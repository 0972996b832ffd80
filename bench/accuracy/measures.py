"""What is measured of one sample, by what the data set knows of the question.

* where moments or spans of the evidence are known: ``recall@T``, ``all_hit@T``, ``precision@T`` for each tolerance
  T in seconds, and ``frame_f1``: the selected frames against all sampled frames within the smallest tolerance of
  some evidence;
* where the right option is known and a VideoQA model was asked: ``accuracy``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from bench.datasets.question import Question
from bench.metrics.all_hit import all_hit
from bench.metrics.frame_f1 import frame_f1
from bench.metrics.moment_recall import moment_recall
from bench.metrics.nearest import selection_distances
from bench.metrics.precision import precision
from hybrid.values import Answer, FloatArray, Timeline

__all__ = ["ACCURACY", "evidence_of", "measure_reply", "measure_selection", "tolerances_for"]

ACCURACY: Final = "accuracy"
_OF_MOMENTS: Final = (1.0, 2.0, 5.0)
_OF_SPANS: Final = (0.0,)


def evidence_of(question: Question) -> FloatArray | None:
    """Spans [M, 2] or moments [M] in seconds; None if the data set has none for this question."""
    known = question.spans_seconds or question.moments_seconds
    return np.array(known, dtype=np.float64) if known else None


def tolerances_for(questions: Sequence[Question]) -> tuple[float, ...]:
    """The usual ones: 0 s where spans are annotated, 1, 2 and 5 s where moments are."""
    return _OF_SPANS if any(question.spans_seconds for question in questions) else _OF_MOMENTS


def measure_selection(
    question: Question, answer: Answer, timeline: Timeline, within: Sequence[float]
) -> dict[str, float]:
    """The measures of a selection; none if no evidence is known.

    Args:
        question: with its evidence.
        answer: its frames.
        timeline: all sampled frames of the video.
        within: tolerances in seconds, at least one.
    """
    evidence = evidence_of(question)
    if evidence is None:
        return {}
    seconds = [frame.seconds for frame in answer.frames]
    measures: dict[str, float] = {}
    for tolerance in within:
        name = f"{tolerance:g}"
        measures[f"recall@{name}"] = moment_recall(seconds, evidence, within_seconds=tolerance)
        measures[f"all_hit@{name}"] = float(all_hit(seconds, evidence, within_seconds=tolerance))
        measures[f"precision@{name}"] = precision(seconds, evidence, within_seconds=tolerance)
    pictures = timeline.distinct_rows()  # a frame that is held over several samples can be selected once
    near = selection_distances(timeline.pts_seconds[pictures], evidence) <= min(within)
    relevant = timeline.ordinals[pictures[near]]
    if len(relevant):  # a moment between two samples has none
        chosen = np.array([frame.ordinal for frame in answer.frames], dtype=np.int64)
        measures["frame_f1"] = frame_f1(chosen, relevant).f1
    return measures


def measure_reply(question: Question, option: int | None) -> Mapping[str, float]:
    """The measure of a reply; none if the right option is not known."""
    return {} if question.answer is None else {ACCURACY: float(option == question.answer)}
