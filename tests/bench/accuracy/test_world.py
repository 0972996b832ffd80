"""``python -m bench.accuracy.world`` on a few short videos: what it reports, and what it refuses before it films."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.accuracy.world import METHODS, compare_methods, main, score_f1
from bench.world.exam import prepare_exam
from bench.world.questions import KINDS
from hybrid.engine import Engine
from hybrid.errors import InputError
from hybrid.presets import PRESETS
from hybrid.progress import NullProgress
from tests.engine.conftest import Recorded

SHORT = ["--videos", "1", "--seconds", "30", "--per-kind", "2", "--frames", "4", "--hours", "2", "--hour", "12"]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="module")
def result(films: Path) -> dict[str, Any]:
    out = films / "result" / "world.json"
    main(["--folder", str(films), *SHORT, "--out", str(out)])
    written: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return written


def test_every_method_says_how_right_how_fast_and_how_often_degraded(result: dict[str, Any]) -> None:
    methods = result["methods"]["methods"]
    assert list(methods) == ["uniform", "clip-topk", "gens", "hybrid"]
    for figures in methods.values():
        assert figures["degraded"] == {"answers": 0, "reasons": {}}
        assert figures["evidence_recall"]["all"]["questions"] == result["questions"]
        seconds = figures["median_seconds"]
        assert seconds["cold"] > 0
        assert seconds["warm"] > 0
    recall = {name: figures["evidence_recall"]["all"]["value"] for name, figures in methods.items()}
    assert recall["hybrid"] > 0.7
    assert recall["hybrid"] > recall["uniform"]


def test_unseen_pairs_are_told_by_kind_of_question(result: dict[str, Any]) -> None:
    recall = result["methods"]["methods"]["hybrid"]["evidence_recall"]
    every = recall["all, unseen pair"]["questions"]
    by_kind = {kind: recall.get(f"{kind}, unseen pair", {"questions": 0})["questions"] for kind in KINDS}
    assert every == sum(by_kind.values())
    assert 0 < every < result["questions"]


def test_the_share_that_clip_finds_is_of_several_videos_with_an_interval(result: dict[str, Any]) -> None:
    hours = result["clip_on_an_hour"]
    assert hours["videos"] == 2
    assert [frames >= 12 for frames in hours["frames"]] == [True, True]
    share = hours["share_in_top_256"]
    assert share["videos"] == 2
    assert share["low"] <= share["value"] <= share["high"]
    # All frames of so short a video are among the best 256.
    assert share["value"] == 1.0
    assert list(hours["share_by_video"].values()) == [1.0, 1.0]


def test_answers_that_gens_could_not_give_are_counted(films: Path, result: dict[str, Any]) -> None:
    exam = prepare_exam(films, "test", 0, seconds=30.0, per_kind=2)
    exams = [replace(exam, questions=tuple(question for question in exam.questions if question.kind == "object"))]
    scorer = Recorded("no JSON at all")
    with Engine.open(films / "archive", preset="tiny", encoder=PRESETS["tiny"].encoder) as opened:
        engine = Engine(opened.archive, opened.settings, fine_model=scorer)
        engine.index(exams[0].video, progress=NullProgress())
        compared = compare_methods(engine, scorer, exams, frames=4)
    assert compared["hybrid_minus_clip_on_temporal"] is None
    methods = compared["methods"]
    asked = len(exams[0].questions)
    assert {name: methods[name]["degraded"]["answers"] for name in METHODS} == {
        "uniform": 0,
        "clip-topk": 0,
        "gens": asked,
        "hybrid": asked,
    }
    assert sum(methods["hybrid"]["degraded"]["reasons"].values()) == asked


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--videos", "0"], "--videos is 0"),
        (["--per-kind", "0"], "--per-kind is 0"),
        (["--frames", "-1"], "--frames is -1"),
        (["--hours", "0"], "--hours is 0"),
        (["--seconds", "0"], "--seconds is 0"),
        (["--hour", "nan"], "--hour is nan"),
        (["--videos", "10001"], "--videos is 10001"),
        (["--out", "."], "--out is '.'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_a_video_is_filmed(
    tmp_path: Path, options: list[str], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        main(["--folder", str(tmp_path / "films"), *options])
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_folder_for_videos(tmp_path: Path) -> None:
    file = tmp_path / "films"
    file.touch()
    with pytest.raises(InputError, match="which is a file; name a folder"):
        main(["--folder", str(file)])


def test_f1_of_scores() -> None:
    truth = np.array([0, 5, 5, 4, 0])
    assert score_f1(truth, truth, least=4) == 1.0
    assert score_f1(np.array([0, 5, 0, 0, 0]), truth, least=4) == pytest.approx(0.5)
    assert score_f1(np.array([0, 5, 0, 5, 0]), truth, least=5) == pytest.approx(0.5)
    nothing = np.zeros(5, np.int64)
    assert score_f1(nothing, nothing, least=4) == 1.0
    assert score_f1(truth, nothing, least=4) == 0.0
    assert score_f1(nothing, truth, least=4) == 0.0
