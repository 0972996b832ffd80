"""Methods that go by the scores of a model of their own: that model is loaded before the run, or nothing is run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.accuracy import __main__ as runner
from bench.accuracy.run.methods import parse_method
from bench.accuracy.run.record import read_run
from bench.accuracy.run.runner import _check_scored
from hybrid.answers import Answer, Stage
from hybrid.errors import OutOfMemoryError, StageFailedError
from hybrid.scorers import spec as scorer_spec
from hybrid.values import ByteArray, FloatArray
from tests.bench.accuracy.conftest import Run
from tests.scorers.checkpoints import make_blip

BLIP, OTHER = "blip-itm:blip", "blip-itm:other"


@dataclass(slots=True)
class Brightness:
    """Scores frames by their brightness; runs out of memory at some questions."""

    name: str
    weights: str = "1"
    fails_at: str = "-"
    device: str = "cpu"
    asked: list[str] = field(default_factory=list)

    @property
    def identity(self) -> dict[str, str]:
        return {"weights": self.weights}

    def score(self, frames: Iterable[ByteArray], questions: Sequence[str]) -> FloatArray:
        self.asked += questions
        if any(self.fails_at in question for question in questions):
            raise OutOfMemoryError("the device is full")
        bright = np.array([frame.mean() for frame in frames])
        return np.tile(bright, (len(questions), 1))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Brightness]:
    """Scorers by name, as they are loaded; what is there already is given."""
    made: dict[str, Brightness] = {}

    def load(name: str, **_: object) -> Brightness:
        assert name not in made or not made[name].asked, f"{name} is loaded a second time"
        return made.setdefault(name, Brightness(name))

    monkeypatch.setattr(runner, "load_video_scorer", load)
    monkeypatch.setattr(scorer_spec, "load_video_scorer", None)  # nothing is loaded within the run
    return made


def test_a_model_that_cannot_be_loaded_is_said_before_any_work(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = f"aks@blip-itm:{tmp_path / 'nowhere'}"
    assert run(tmp_path / "run", methods=("--method", spec)) == 2
    assert f"there is no folder {tmp_path / 'nowhere'}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_each_model_is_loaded_once_for_all_samples(run: Run, tmp_path: Path, loaded: dict[str, Brightness]) -> None:
    names = [f"{rule}@{scores}" for scores in (BLIP, OTHER) for rule in ("aks", "top_k")]
    methods = [part for name in names for part in ("--method", name)]
    assert run(tmp_path, "--skip-missing", methods=(*methods, "--method", "aks@clip")) == 0
    assert loaded.keys() == {BLIP, OTHER}
    settings, samples = read_run(tmp_path)
    assert settings["scores"] == {BLIP: {"weights": "1"}, OTHER: {"weights": "1"}}
    assert len(samples) == 5 * 4
    # Two rules ask a scorer of each of four questions, besides one to warm up.
    assert [len(scorer.asked) for scorer in loaded.values()] == [2 * (4 + 1)] * 2
    stages = {stage["name"]: stage for stage in (samples[f"top_k@{BLIP}", "one_0"].selection or {})["stages"]}
    assert stages["scores"]["ran"]


def test_a_run_goes_on_only_with_the_same_weights(
    run: Run, tmp_path: Path, loaded: dict[str, Brightness], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--skip-missing", methods=("--method", f"aks@{BLIP}")) == 0
    assert run(tmp_path, "--skip-missing", methods=("--method", "uniform")) == 0  # needs no scores: they stay on record
    loaded.clear()
    assert run(tmp_path, "--skip-missing", methods=("--method", f"top_k@{OTHER}")) == 0
    assert read_run(tmp_path)[0]["scores"] == {BLIP: {"weights": "1"}, OTHER: {"weights": "1"}}
    loaded[BLIP] = Brightness(BLIP, weights="2")
    assert run(tmp_path, "--skip-missing", methods=("--method", f"top_k@{BLIP}")) == 2
    assert f"scores.{BLIP}.weights: '1' there, '2' now" in capsys.readouterr().err
    assert len(read_run(tmp_path)[1]) == 3 * 4


def test_a_real_model_has_its_identity_on_record(run: Run, tmp_path: Path) -> None:
    name = f"blip-itm:{make_blip(tmp_path / 'blip')}"
    methods = ("--method", f"aks@{name}")
    assert run(tmp_path / "run", "--skip-missing", "--subset", "1", methods=methods) == 0
    identity = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["scores"][name]
    assert len(identity["weights"]) >= 16
    make_blip(tmp_path / "again", seed=1)
    (tmp_path / "blip").rename(tmp_path / "before")
    (tmp_path / "again").rename(tmp_path / "blip")
    assert run(tmp_path / "run", "--skip-missing", "--subset", "1", methods=methods) == 2


def test_a_sample_that_its_model_did_not_score_has_failed(
    run: Run, tmp_path: Path, loaded: dict[str, Brightness]
) -> None:
    loaded[BLIP] = Brightness(BLIP, fails_at="green")
    assert run(tmp_path, "--skip-missing", methods=("--method", f"aks@{BLIP}", "--method", "aks")) == 1
    _, samples = read_run(tmp_path)
    failed = [key for key, sample in samples.items() if sample.failure is not None]
    assert failed == [(f"aks@{BLIP}", "one_1")]
    sample = samples[failed[0]]
    assert sample.failure is not None
    assert sample.failure.step == "select"
    assert sample.failure.reason.startswith("the stage 'scores' did not run: the device is full; ")
    assert (sample.selection, sample.measures) == (None, {})


def answer_with(*stages: Stage) -> Answer:
    return Answer("q", "v.mp4", "0", 10.0, (), (), stages)


def lost(name: str, **more: Any) -> Stage:
    return Stage(name=name, ran=False, seconds=0.0, model="m", fallback_reason="it cannot be loaded", **more)


@pytest.mark.parametrize("method", ["hybrid", "gens", "hybrid+aks"])
@pytest.mark.parametrize("stage", ["gens", "frames"])
def test_a_method_of_gens_without_gens_has_failed(method: str, stage: str) -> None:
    with pytest.raises(StageFailedError, match=f"the stage '{stage}' did not run: it cannot be loaded"):
        _check_scored(parse_method(method), answer_with(lost(stage)))


def test_a_model_that_was_asked_and_said_nothing_leaves_a_degraded_sample() -> None:
    _check_scored(parse_method("hybrid"), answer_with(lost("gens", details={"reply_status": ["empty"]})))
    _check_scored(parse_method("aks@clip"), answer_with(lost("gens")))  # CLIP's frames are what was asked for
