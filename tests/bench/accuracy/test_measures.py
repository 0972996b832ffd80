"""What is measured where the data set has the labels, and how the report sums it up."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from bench.accuracy.run.evidence import frames_at
from bench.accuracy.run.measures import measure_pictures, measure_selection, measure_spans
from bench.accuracy.run.record import Sample
from bench.accuracy.run.report import build_report, report_lines
from bench.datasets.question import Question
from hybrid.answers import Answer, AnswerFrame, Span
from hybrid.values import Sampling, Timeline

TIMELINE = Timeline(np.arange(60), np.arange(60.0), np.arange(60), Sampling(), 60.0)


def answer_of(*seconds: int) -> Answer:
    frames = tuple(AnswerFrame(float(s), s, s * 30, None, None) for s in seconds)
    return Answer("q", "v.mp4", "0", 60.0, (), frames, ())


def test_moments_give_lv_haystacks_temporal_measures() -> None:
    question = Question("q", "v.mp4", "?", moments_seconds=(10.0, 40.0))
    measures = measure_selection(question, answer_of(6, 15, 30), TIMELINE, (1.0,))
    # 6 and 15 s lie within 5 s of 10 s, 30 s of nothing: two of three frames, one of two moments.
    assert (measures["temporal_precision"], measures["temporal_recall"]) == (2 / 3, 1 / 2)
    assert measures["temporal_f1"] == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    nothing = measure_selection(question, answer_of(), TIMELINE, (1.0,))
    assert "temporal_f1" not in nothing
    spans = Question("q", "v.mp4", "?", spans_seconds=((5.0, 8.0),))
    assert "temporal_f1" not in measure_selection(spans, answer_of(6), TIMELINE, (0.0,))


def test_spans_are_compared_with_spans() -> None:
    one = Question("q", "v.mp4", "?", spans_seconds=((10.0, 20.0),))
    predicted = (Span(0.0, 10.0, 3.0), Span(12.0, 18.0, 5.0), Span(40.0, 44.0, 5.0))
    measures = measure_spans(one, predicted)
    # The best score comes first, the earlier of two: 12 to 18 s, of which all lies in the 10 s that are annotated.
    assert measures["iou_of_first"] == pytest.approx(0.6)
    assert [measures[f"R1@{iou}"] for iou in (0.3, 0.5, 0.7)] == [1.0, 1.0, 0.0]
    assert measures["temporal_iou"] == pytest.approx(6 / (10 + 10 + 4))
    assert measure_spans(one, ()) == dict.fromkeys(measures, 0.0)
    several = Question("q", "v.mp4", "?", spans_seconds=((10.0, 20.0), (40.0, 44.0)))
    assert measure_spans(several, predicted) == {"temporal_iou": pytest.approx((6 + 4) / (10 + 14))}
    assert measure_spans(Question("q", "v.mp4", "?", moments_seconds=(1.0,)), predicted) == {}


def test_the_frames_of_the_evidence_are_those_shown_then(videos: Path) -> None:
    video = videos / "one.mp4"
    with av.open(str(video)) as container:
        shown = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    for place in (0, 1, 100, len(shown) - 1):
        (found,) = frames_at(video, [shown[place][0]])
        assert (found == shown[place][1]).all()
    between = (shown[50][0] + shown[51][0]) / 2
    first, second = frames_at(video, [shown[200][0], between])
    assert (first == shown[50][1]).all()
    assert (second == shown[200][1]).all()


def test_visual_measures_are_of_pictures() -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(24, 32, 3), dtype=np.uint8)
    flat = np.full((24, 32, 3), 128, dtype=np.uint8)
    measures = measure_pictures([noise, flat], [noise])
    assert measures["visual_recall"] == pytest.approx(1.0)
    assert 0.5 <= measures["visual_precision"] < 0.9
    assert measure_pictures([], [noise]) == {}


def test_the_report_sums_up_as_the_published_code_does() -> None:
    questions = [Question(f"q{n}", "v.mp4", "?", options=("a", "b"), answer=0) for n in range(3)]
    values: list[dict[str, float]] = [
        {"temporal_precision": 1.0, "temporal_recall": 0.5, "temporal_f1": 2 / 3, "accuracy": 1.0,
         "visual_precision": 1.0, "visual_recall": 0.5},
        {"temporal_precision": 0.0, "temporal_recall": 0.0, "temporal_f1": 0.0, "accuracy": 0.0,
         "visual_precision": 0.5, "visual_recall": 0.0},
        {"accuracy": 0.0},
    ]  # fmt: skip
    samples = [
        Sample("x", q.id, q.video, 0, {"frames": [1]}, {"select": 0.1}, found, reply={"option": option})
        for q, found, option in zip(questions, values, (0, None, 1), strict=True)
    ]
    report = build_report({s.key: s for s in samples}, questions, ["x"], resamples=10)
    state = report["methods"]["x"]
    assert state["qa_accuracy"] == {"value": pytest.approx(1 / 3), "questions": 3, "unreadable": 1}
    temporal, visual = state["lv_haystack"]["temporal"], state["lv_haystack"]["visual"]
    assert (temporal["precision"], temporal["f1"]) == (0.5, pytest.approx(1 / 3))  # a mean of F1s
    assert (temporal["questions"], temporal["left_out"]) == (2, 1)
    assert (visual["precision"], visual["recall"], visual["f1"]) == (0.75, 0.25, 0.375)  # the F1 of means
    (_, header, (row,)) = next(table for table in report_lines(report) if table[0].startswith("LV-Haystack"))
    assert row == ["x", "0.500", "0.250", "0.333", "2", "1", "0.750", "0.250", "0.375"]
    assert len(header) == len(row)
    assert not any(name.startswith(("temporal_", "visual_")) for name in report_lines(report)[0][1])
