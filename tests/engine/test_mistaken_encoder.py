"""Another encoder than that of the index is refused by its name, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from hybrid.answers import Answer, FoundVideo, Stage
from hybrid.clip.registry import identity_of_name
from hybrid.engine import Engine
from hybrid.engine.search.fine import ask_best_videos
from hybrid.engine.search.work import Search, SearchModels
from hybrid.errors import IndexMismatchError
from hybrid.options.search import SearchOptions
from tests.demo_clip import DEMO_SCENES, write_demo_clip
from tests.engine.conftest import Recorded

OpenEngine = Callable[..., Engine]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", DEMO_SCENES[:1])


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, whoever loads an encoder fails the test."""

    def load(*_: object, **__: object) -> NoReturn:
        raise AssertionError("an encoder was loaded")

    return lambda: monkeypatch.setattr("hybrid.engine.models.load_encoder", load)


def test_a_forgotten_preset_is_named(open_engine: OpenEngine, clip: Path, nothing_loads: Callable[[], None]) -> None:
    open_engine(encoder=None, preset="tiny").index(clip)
    nothing_loads()
    engine = open_engine(encoder=None)
    says = r"encoder\.model: clip -> ViT-B-32; .*ask with the one it was made with: --preset tiny; .*hybrid index "
    with pytest.raises(IndexMismatchError, match=says):
        engine.ask(clip, "a red circle", fine=False)
    with pytest.raises(IndexMismatchError, match=r"of 1 video none .* they were indexed with: --preset tiny; "):
        engine.search("a red circle")


def test_a_forgotten_encoder_is_named(open_engine: OpenEngine, clip: Path, nothing_loads: Callable[[], None]) -> None:
    open_engine().index(clip)
    nothing_loads()
    with pytest.raises(IndexMismatchError, match="--encoder local-dir:FOLDER or hf-hub:NAME that ends in tiny-clip"):
        open_engine(encoder="ViT-L-14/openai").ask(clip, "a red circle")


def test_what_needs_no_encoder_is_answered_all_the_same(
    open_engine: OpenEngine, clip: Path, nothing_loads: Callable[[], None]
) -> None:
    open_engine().index(clip)
    nothing_loads()
    engine = open_engine(encoder=None, scorer=Recorded('{"2": 5}'))
    assert [frame.ordinal for frame in engine.ask(clip, "a red circle", coarse=False).frames] == [2]


def test_a_name_is_what_the_loaded_encoder_calls_itself(open_engine: OpenEngine, clip: Path, clip_folder: Path) -> None:
    engine = open_engine()
    engine.index(clip)
    stored = engine.archive.require(engine.archive.identify(clip)).config.encoder
    for name in (f"local-dir:{clip_folder}", f"local-dir:{clip_folder}/", str(clip_folder)):
        assert identity_of_name(name) == {key: stored[key] for key in ("encoder", "model", "pretrained")}


def test_a_search_names_the_model_that_the_answers_name(open_engine: OpenEngine) -> None:
    def answer(video_id: str) -> Answer:
        ran = video_id == "b"
        stage = Stage(name="gens", ran=ran, seconds=0.0, model="the one that ran" if ran else "another")
        return Answer("a?", video_id, video_id, 1.0, spans=(), frames=(), stages=(stage,))

    def unused(*_: object) -> NoReturn:
        raise AssertionError("only the fine stage is looked at here")

    models = SearchModels(encoder=unused, name_changes=unused, changes=unused, ask=answer, sampler_name="meant")
    videos = [FoundVideo(name, name, 1.0, 0.5, frames=()) for name in ("a", "b")]
    for fine, model in ((2, "the one that ran"), (1, "another")):
        search = Search(open_engine().archive, "a?", SearchOptions(fine=fine))
        ask_best_videos(search, videos, models)
        assert search.stages[-1].model == model
