"""Names of methods, and what is measured of what they choose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.accuracy.run.measures import measure_reply, measure_selection, tolerances_for
from bench.accuracy.run.methods import Method, parse_method
from bench.accuracy.run.plot import main_measure, save_plot
from bench.accuracy.run.record import Sample
from bench.accuracy.run.report import build_report, report_lines, report_notes
from bench.datasets.question import Question
from bench.metrics.bootstrap import bootstrap_difference
from hybrid.answers import Answer, AnswerFrame
from hybrid.options.ask import AskOptions
from hybrid.options.keywords import AskKeywords
from hybrid.values import Sampling, Timeline


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("hybrid", Method("hybrid", "hybrid")),
        ("gens", Method("gens", "gens")),
        ("clip", Method("clip", "clip")),
        ("uniform", Method("uniform", "none", "uniform")),
        ("aks", Method("aks", "clip", "aks")),
        ("mdp3", Method("mdp3", "clip", "mdp3")),
        ("hybrid+aks", Method("hybrid+aks", "hybrid", "aks")),
        ("aks@clip", Method("aks@clip", "clip", "aks", "clip")),
        ("aks:depth=3,faithful", Method("aks:depth=3,faithful", "clip", "aks:depth=3,faithful")),
        ("aks:threshold=1e+3", Method("aks:threshold=1e+3", "clip", "aks:threshold=1e+3")),
        ("uniform:centred", Method("uniform:centred", "none", "uniform:centred")),
        ("gens+bolt:power=2", Method("gens+bolt:power=2", "gens", "bolt:power=2")),
        ("aks:depth=3@clip", Method("aks:depth=3@clip", "clip", "aks:depth=3", "clip")),
    ],
)
def test_a_name_says_who_scores_and_who_chooses(name: str, method: Method) -> None:
    assert parse_method(name) == method


def test_the_options_of_a_method() -> None:
    assert parse_method("hybrid+aks").keywords({"frames": 3}) == {"frames": 3, "select": "aks", "scores": None}
    assert parse_method("clip").keywords({}) == {"fine": False, "select": None, "scores": None}
    assert parse_method("gens").keywords({})["coarse"] is False


def test_common_options_are_left_out_where_they_decide_nothing() -> None:
    common: AskKeywords = {"frames": 3, "window": 8, "window_mode": "context", "seed": 1}
    kept = {name: set(parse_method(name).keywords(common)) & set(common) for name in ("hybrid", "clip", "hybrid+focus")}
    assert kept == {"hybrid": {"frames", "window", "window_mode"}, "clip": {"frames"}, "hybrid+focus": set(common)}
    assert "seed" not in parse_method("focus:seed=4").keywords(common)
    for name in ("hybrid", "clip", "focus", "focus:seed=4", "aks"):
        AskOptions(**parse_method(name).keywords(common))  # refuses what decides nothing


def answer_of(*ordinals: int) -> Answer:
    frames = tuple(AnswerFrame(float(o), o, o * 30, None, None) for o in ordinals)
    return Answer("q", "v.mp4", "0", 10.0, (), frames, ())


def test_a_frame_that_is_held_counts_once() -> None:
    # Samples 3 and 4 show one frame: it can be selected once, so that it can only be wanted once.
    seconds = np.array([0.0, 1.0, 2.0, 3.0, 3.0, 5.0])
    timeline = Timeline(np.arange(6), seconds, np.arange(6), Sampling(), 6.0)
    question = Question("q", "v.mp4", "?", spans_seconds=((2.5, 4.5),))
    assert measure_selection(question, answer_of(3), timeline, (0.0,))["frame_f1"] == 1.0
    assert tolerances_for([question]) == (0.0,)


def test_a_moment_between_two_samples_has_no_frames_to_want() -> None:
    timeline = Timeline(np.array([0, 5]), np.array([0.0, 5.0]), np.array([0, 5]), Sampling(), 9.0)
    question = Question("q", "v.mp4", "?", moments_seconds=(2.5,))
    measures = measure_selection(question, answer_of(0), timeline, (1.0, 5.0))
    assert "frame_f1" not in measures
    assert (measures["recall@1"], measures["recall@5"], measures["all_hit@5"]) == (0.0, 1.0, 1.0)
    assert measure_selection(Question("q", "v", "?"), answer_of(0), timeline, (1.0,)) == {}


def test_an_unreadable_reply_is_wrong_and_one_without_truth_no_measure() -> None:
    asked = Question("q", "v.mp4", "?", options=("a", "b"), answer=1)
    assert (measure_reply(asked, 1), measure_reply(asked, 0), measure_reply(asked, None)) == (
        {"accuracy": 1.0},
        {"accuracy": 0.0},
        {"accuracy": 0.0},
    )
    assert measure_reply(Question("q", "v.mp4", "?", options=("a", "b")), 1) == {}


def test_a_difference_is_over_the_questions_that_both_have() -> None:
    questions = [Question(f"q{n}", f"v{n % 3}.mp4", "?", labels={"kind": "ab"[n % 2]}) for n in range(9)]
    rng = np.random.default_rng(0)
    values = {method: rng.random(9) for method in ("x", "y")}
    samples = [
        Sample(method, q.id, q.video, 0, {"frames": [1]}, {"select": 0.1}, {"recall@1": float(values[method][n])})
        for method in ("x", "y")
        for n, q in enumerate(questions)
        if (method, n) not in (("y", 4), ("x", 7))
    ]
    report = build_report({s.key: s for s in samples}, questions, ["x", "y"], by=["kind"], resamples=200)
    both = [n for n in range(9) if n not in (4, 7)]
    wanted = bootstrap_difference(
        values["x"][both], values["y"][both], [questions[n].video for n in both], resamples=200
    )
    found = report["differences"]["to"]["recall@1"]["y"]
    assert (found["value"], found["low"], found["p_value"]) == (wanted.value, wanted.low, wanted.p_value)
    assert found["questions"] == 7
    assert report["measures"]["all"]["x"]["recall@1"]["questions"] == 8
    assert report["differences"]["by_group"]["kind=b"]["recall@1"]["y"]["questions"] == 3
    assert report["measures"]["kind=a"]["x"]["recall@1"]["questions"] == 5
    assert report["methods"]["y"]["done"] == 8
    assert [title for title, _, _ in report_lines(report)] == ["all", "kind=a", "kind=b", "differences"]
    assert main_measure(report) == "recall@1"


@pytest.mark.parametrize(("videos", "shown"), [(5, False), (6, True)])
def test_so_few_videos_have_no_interval(videos: int, shown: bool) -> None:
    questions = [Question(f"q{n}", f"v{n % videos}.mp4", "?") for n in range(12)]
    samples = [
        Sample(method, q.id, q.video, 0, {"frames": [1]}, {}, {"recall@1": (n % 4) / 4 + add})
        for method, add in (("x", 0.25), ("y", 0.0))
        for n, q in enumerate(questions)
    ]
    report = build_report({s.key: s for s in samples}, questions, ["x", "y"], resamples=100)
    (_, header, (row, _)), (_, names, (difference,)) = report_lines(report)
    assert row[header.index("videos")] == str(videos)
    assert ("[" in row[header.index("recall@1")]) == shown
    assert row[header.index("recall@1")].startswith("0.625")
    assert difference[names.index("videos")] == str(videos)
    assert difference[names.index("[95 %]")].startswith("+0.250")
    assert ("[" in difference[names.index("[95 %]")]) == shown
    assert (difference[names.index("p")] != "-") == shown
    assert len(report_notes(report)) == (0 if shown else 1)


def test_a_mean_outside_of_its_interval_by_rounding_is_drawn(tmp_path: Path) -> None:
    question = Question("q", "v.mp4", "?")
    samples = {("x", "q"): Sample("x", "q", "v.mp4", 0, {"frames": [1]}, {"select": 0.1}, {"recall@1": 0.3})}
    report = build_report(samples, [question], ["x"], resamples=10)
    report["measures"]["all"]["x"]["recall@1"].update(low=np.nextafter(0.3, 1), high=np.nextafter(0.3, 0))
    assert save_plot(report, tmp_path / "plot.png", title="t")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_a_report_of_nothing_is_empty_and_no_error() -> None:
    report = build_report({}, [Question("q", "v.mp4", "?")], ["x", "y"])
    assert main_measure(report) is None
    assert report["methods"]["x"]["select_seconds"] == {"median": None, "p95": None}
    assert report_lines(report)[0][2][0][:5] == ["x", "0", "0", "0", "0"]
