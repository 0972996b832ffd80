"""Selectors on the world: what is kept is what the engine gives, and nothing is scored twice."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench.accuracy import coverage, selectors_world, world
from bench.accuracy.export import answers_of
from bench.accuracy.run.record import read_run
from bench.accuracy.selector_tables import Way, ways_of
from bench.datasets.world import load_world, moments_label
from bench.world.scenes import make_world
from hybrid.engine import Engine
from hybrid.errors import InputError
from hybrid.selectors.registry import SELECTORS

SECONDS, FRAMES = 20.0, 4


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world")


def run(place: Path, *more: str) -> dict[str, Any]:
    given = ["--videos", str(place), "--archive", str(place / "archive"), "--out", str(place / "run"), "--count", "1"]
    given += ["--seconds", f"{SECONDS:g}", "--per-kind", "1", "--frames", str(FRAMES), "--resamples", "20"]
    selectors_world.main([*given, "--result", str(place / "result.json"), *more])
    document: dict[str, Any] = json.loads((place / "result.json").read_text())
    return document


def measures(place: Path) -> dict[tuple[str, str], Any]:
    return {key: (sample.measures, sample.selection) for key, sample in read_run(place / "run")[1].items()}


def test_the_choices_are_those_of_the_engine_and_are_kept(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [SELECTORS.find(name) for name in ("uniform", "top_k", "best_first", "aks", "coverage")]
    monkeypatch.setattr(selectors_world, "SELECTORS", few)
    document = run(place)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == document
    questions = load_world(place, videos=1, seconds=SECONDS, per_kind=1)
    kept = measures(place)
    ways = ways_of(few)
    assert len(kept) == len(questions) * len(ways)
    with Engine.open(place / "archive", preset="tiny") as engine:
        for question in questions:
            for name, options in (("gens+best_first", {}), ("clip+top_k", {"fine": False}), ("clip+aks", AKS)):
                answer = engine.ask(place / question.video, question.question, frames=FRAMES, **options)
                chosen = kept[f"{name}@{FRAMES}", question.id][1]["frames"]
                if not answer.degraded:  # else the engine gives CLIP's frames, and here GenS gave none
                    assert chosen == [frame.ordinal for frame in answer.frames]
    figures = document["report"][str(FRAMES)]
    recall = figures["measures"]["all"][f"clip+top_k@{FRAMES}"]["recall@0"]["value"]
    each = [kept[f"clip+top_k@{FRAMES}", question.id][0]["recall@0"] for question in questions]
    assert recall == pytest.approx(sum(each) / len(each), abs=1e-4)
    assert figures["differences"]["first"] == f"gens+best_first@{FRAMES}"
    assert {group for group in figures["measures"] if group.startswith("moments=")} == {
        f"moments={question.labels['moments']}" for question in questions
    }
    # A run that was cut goes on, and takes the scores that it has.
    file = place / "run" / "samples.jsonl"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    monkeypatch.setattr(selectors_world, "score_questions", None)
    again = run(place, "--against", "uniform")
    assert measures(place) == kept
    assert again["report"][str(FRAMES)]["differences"]["first"] == f"uniform@{FRAMES}"
    assert again["report"][str(FRAMES)]["measures"] == figures["measures"]


def test_an_unknown_method_to_compare_with_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--against is 'gens\+best'; legal are uniform, "):
        run(tmp_path, "--against", "gens+best")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_may_lie_in_a_bucket(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(where: object) -> Any:
        raise InputError(f"opened {where!r}")

    monkeypatch.setattr("bench.accuracy.selectors_world.open_archive", opened)
    with pytest.raises(InputError, match="opened 's3://bucket/place'"):
        run(place, "--archive", "s3://bucket/place", "--out", str(tmp_path / "run"))


@pytest.mark.parametrize("program", [coverage, world])
def test_a_folder_has_to_be_named(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["program"])
    with pytest.raises(SystemExit):
        program.main()
    assert "the following arguments are required: --folder" in capsys.readouterr().err


AKS: dict[str, Any] = {"fine": False, "select": "aks"}


def test_every_selector_that_goes_by_scores_is_run_with_both() -> None:
    ways = ways_of(tuple(SELECTORS))
    assert {Way("clip", "aks"), Way("gens", "aks"), Way("", "uniform"), Way("", "mdp3")} <= set(ways)
    assert {way.source for way in ways if way.selector == "coverage"} == {"clip", "gens"}
    assert "tifre" not in {way.selector for way in ways}  # needs texts made from the question
    assert Way("gens", "aks").name(8) == "gens+aks@8"
    assert Way("", "uniform").name(8) == "uniform@8"


def test_the_world_as_a_data_set(place: Path) -> None:
    questions = load_world(place, videos=1, seconds=SECONDS, per_kind=2)
    assert len({question.id for question in questions}) == len(questions) > 4
    for question in questions:
        assert (place / question.video).is_file()
        assert question.labels["moments"] == moments_label(len(question.spans_seconds))
        duration = question.duration_seconds or 0.0
        assert SECONDS <= duration == make_world("test", 0, seconds=SECONDS).duration_seconds
        assert all(0 <= start < end <= duration for start, end in question.spans_seconds)
    with pytest.raises(InputError, match="no split 'train' to measure on; legal are validation, test"):
        load_world(place, split="train")
    assert [moments_label(count) for count in (1, 2, 3, 9)] == ["1", "2", "3+", "3+"]


def test_a_run_without_whole_answers_cannot_be_exported(place: Path) -> None:
    with pytest.raises(InputError, match="holds no samples of 'hybrid'"):
        answers_of(place / "run", "hybrid")
