"""What is measured of one sample, by what the data set knows of the question.

* where moments or spans of the evidence are known: ``recall@T``, ``all_hit@T``, ``precision@T`` for each tolerance
  T in seconds, and ``frame_f1``: the selected frames against all sampled frames within the smallest tolerance of
  some evidence;
* where moments are known: LV-Haystack's ``temporal_precision``, ``temporal_recall`` and ``temporal_f1``, unless nothing
  was selected; and if it was asked for, its ``visual_precision`` and ``visual_recall``, over pictures;
* where spans are known, and the method gives spans: ``temporal_iou`` of all of them; where one span is known, also
  ``iou_of_first`` (its mean is mIoU) and ``R1@M``: whether the IoU of the best predicted span is at least M;
* where the right option is known and a VideoQA model was asked: ``accuracy``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from bench.datasets.question import Question
from bench.metrics.all_hit import all_hit
from bench.metrics.frame_f1 import frame_f1
from bench.metrics.lv_haystack_temporal import temporal_score
from bench.metrics.lv_haystack_visual import visual_score
from bench.metrics.moment_recall import moment_recall
from bench.metrics.nearest import selection_distances
from bench.metrics.precision import precision
from bench.metrics.qa_accuracy import correct
from bench.metrics.temporal_iou import recall_at, temporal_iou
from hybrid.answers import Answer, Span
from hybrid.values import ByteArray, FloatArray, Timeline

__all__ = [
    "ACCURACY",
    "TEMPORAL",
    "VISUAL",
    "evidence_of",
    "measure_pictures",
    "measure_reply",
    "measure_selection",
    "measure_spans",
    "tolerances_for",
]

ACCURACY: Final = "accuracy"
TEMPORAL: Final = ("temporal_precision", "temporal_recall", "temporal_f1")
VISUAL: Final = ("visual_precision", "visual_recall")
IOUS: Final = (0.3, 0.5, 0.7)
"""As tables of Charades-STA have them."""
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
    haystack = temporal_score(seconds, question.moments_seconds) if question.moments_seconds else None
    if haystack is not None:
        measures.update(zip(TEMPORAL, (haystack.precision, haystack.recall, haystack.f1), strict=True))
    return measures


def measure_spans(question: Question, spans: Sequence[Span]) -> dict[str, float]:
    """The measures of predicted spans; none if no span is annotated.

    Args:
        question: with its evidence.
        spans: what a method predicts; none predicted counts 0. The best score comes first, ties to the earlier.
    """
    if not question.spans_seconds:
        return {}
    ranked = sorted(spans, key=lambda span: (-span.score, span.start_seconds))
    predicted = np.array([(span.start_seconds, span.end_seconds) for span in ranked]).reshape(-1, 2)
    evidence = np.array(question.spans_seconds, dtype=np.float64)
    measures = {"temporal_iou": temporal_iou(predicted, evidence)}
    if len(evidence) == 1:
        measures["iou_of_first"] = temporal_iou(predicted[:1], evidence)
        measures.update({f"R1@{iou:g}": float(recall_at(predicted, evidence, first=1, iou=iou)) for iou in IOUS})
    return measures


def measure_pictures(selected: Sequence[ByteArray], evidence: Sequence[ByteArray]) -> dict[str, float]:
    """LV-Haystack's visual measures of one question, as its authors' code computes them; none without pictures.

    Args:
        selected: uint8 [H, W, 3] RGB, the selected frames.
        evidence: the same of the evidence.
    """
    score = visual_score(selected, evidence)
    return {} if score is None else dict(zip(VISUAL, (score.precision, score.recall), strict=True))


def measure_reply(question: Question, option: int | None) -> Mapping[str, float]:
    """The measure of a reply; none if the right option is not known."""
    return {} if question.answer is None else {ACCURACY: float(correct([option], [question.answer])[0])}
