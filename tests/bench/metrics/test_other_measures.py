"""Temporal IoU, R@n IoU, frame F1 and accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.metrics.frame_f1 import frame_f1
from bench.metrics.qa_accuracy import correct, qa_accuracy
from bench.metrics.temporal_iou import recall_at, temporal_iou
from hybrid.errors import InputError

span_lists = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda s: (s[0], s[0] + s[1])), max_size=5)


@given(span_lists, span_lists)
@settings(deadline=None)
def test_iou_is_that_of_the_seconds_covered(predicted: list[tuple[int, int]], evidence: list[tuple[int, int]]) -> None:
    a, b = ({second for start, end in spans for second in range(start, end)} for spans in (predicted, evidence))
    expected = len(a & b) / len(a | b) if a | b else 0.0
    assert temporal_iou(predicted, evidence) == pytest.approx(expected)
    assert temporal_iou(evidence, predicted) == pytest.approx(expected)


def test_recall_at_looks_at_the_first_n() -> None:
    predicted = [(0.0, 4.0), (10.0, 20.0), (12.0, 22.0)]
    # IoU with [12, 20]: 0, 8/10, 8/10.
    assert not recall_at(predicted, (12.0, 20.0), first=1, iou=0.3)
    assert recall_at(predicted, (12.0, 20.0), first=2, iou=0.8)
    assert not recall_at(predicted, [(12.0, 20.0)], first=3, iou=0.81)
    assert not recall_at([], (12.0, 20.0), first=5, iou=0.1)
    with pytest.raises(InputError, match="one annotated span"):
        recall_at(predicted, [(1.0, 2.0), (3.0, 4.0)], first=1, iou=0.5)
    with pytest.raises(InputError, match="at most 1"):
        recall_at(predicted, (1.0, 2.0), first=1, iou=1.5)


@given(st.lists(st.integers(0, 30)), st.lists(st.integers(0, 30), min_size=1))
@settings(deadline=None)
def test_frame_f1_is_the_harmonic_mean(selected: list[int], relevant: list[int]) -> None:
    score = frame_f1(np.array(selected, dtype=np.int64), np.array(relevant))
    both = len(set(selected) & set(relevant))
    assert score.recall == both / len(set(relevant))
    total = score.precision + score.recall
    assert score.f1 == pytest.approx(2 * score.precision * score.recall / total if total else 0)


def test_frame_f1_refuses_seconds_and_nothing() -> None:
    with pytest.raises(InputError, match="whole numbers"):
        frame_f1([1.5], [1])
    with pytest.raises(InputError, match="no frame"):
        frame_f1([1], [])


def test_an_unreadable_answer_is_wrong() -> None:
    accuracy = qa_accuracy([0, None, 2, 1], [0, 1, 2, 3])
    assert (accuracy.value, accuracy.questions, accuracy.unreadable) == (0.5, 4, 1)
    assert correct([0, None, 2, 1], [0, 1, 2, 3]).tolist() == [1, 0, 1, 0]
    with pytest.raises(InputError, match="no question"):
        qa_accuracy([], [])
    with pytest.raises(InputError, match="2 answers"):
        qa_accuracy([1, 2], [1])
