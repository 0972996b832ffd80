"""GenS's features in the archive: who makes them, who uses them, and that no answer depends on where they came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hybrid.answers import Answer, Stage
from hybrid.engine import Engine, videos
from hybrid.engine.batch.estimate import estimate_run
from hybrid.errors import InputError, ModelLoadError
from hybrid.fine.decoding.options import LoopOptions
from hybrid.fine.feature_maker import find_feature_maker
from hybrid.fine.load import load_scorer
from hybrid.fine.prompt import GENS_QWEN
from hybrid.options.engine import EngineOptions
from hybrid.testing.untrained_clip import make_untrained_clip
from hybrid.testing.untrained_gens import make_untrained_gens
from indexes.open_archive import open_archive
from tests.demo_clip import DEMO_SCENES, write_demo_clip
from tests.engine.conftest import Counted, Recorded, counted_from

OpenEngine = Callable[..., Engine]
QUESTION = "a red circle"


def stage(answer: Answer, name: str) -> Stage:
    return next(stage for stage in answer.stages if stage.name == name)


def said(answer: Answer) -> tuple[object, ...]:
    return answer.reply, answer.frames, answer.spans


def values_file(engine: Engine) -> Path:
    (path,) = engine.archive.folder.rglob("features-*.values")
    return path


@pytest.fixture
def scorer(tiny_scorer: object) -> Counted:
    return counted_from(tiny_scorer)


@pytest.fixture
def video(demo_clip: Path, tmp_path: Path) -> Path:
    """A copy that a test may delete."""
    place = tmp_path / "video.mp4"
    place.write_bytes(demo_clip.read_bytes())
    return place


@pytest.fixture(scope="module")
def other_gens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint like the usual one, with other weights."""
    return make_untrained_gens(tmp_path_factory.mktemp("other") / "tiny-gens", seed=1)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Grows by one for each time that a question opens a video."""

    places: list[Path] = []
    real = videos.open_source

    def counting(path: Path, *arguments: object, **options: object) -> object:
        places.append(path)
        return real(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(videos, "open_source", counting)
    return places


def test_the_second_question_needs_neither_video_nor_tower(
    open_engine: OpenEngine, video: Path, scorer: Counted, opened: list[Path]
) -> None:
    engine = open_engine(scorer=scorer)
    first = engine.ask(video, QUESTION)
    frames = stage(first, "frames")
    assert (frames.ran, frames.candidates_out, frames.details["encoded"], frames.details["from_store"]) == (
        True,
        41,
        41,
        0,
    )
    assert frames.details["frames_decoded"] >= 41
    assert "vision" in stage(first, "gens").details["seconds"]
    assert (len(opened), sum(scorer.encoded)) == (1, 41)
    second = engine.ask(video, QUESTION)
    frames = stage(second, "frames")
    assert (frames.ran, frames.fallback_reason, frames.candidates_in, frames.candidates_out) == (False, None, 41, 41)
    assert frames.details == {"frames_decoded": 0, "from_store": 41, "encoded": 0}
    assert "feature store" in frames.notes[0]
    assert "vision" not in stage(second, "gens").details["seconds"]
    assert (len(opened), sum(scorer.encoded)) == (1, 41)
    assert said(second) == said(first)
    assert not second.degraded
    assert first.frames[0].gens_score is not None


def test_only_the_frames_that_are_missing_are_decoded(open_engine: OpenEngine, video: Path, scorer: Counted) -> None:
    engine = open_engine(scorer=scorer)
    engine.ask(video, QUESTION, window=8)
    answer = engine.ask(video, "a blue square", window=20)
    frames = stage(answer, "frames").details
    assert frames["from_store"] + frames["encoded"] == 20
    assert frames["encoded"] == sum(scorer.encoded) - 8 <= 20


def test_an_answer_from_stored_features_is_the_answer_from_the_frames(
    open_engine: OpenEngine, video: Path, scorer: Counted, tmp_path: Path
) -> None:
    engine = open_engine(scorer=scorer)
    options = {"window": 16, "frames": 5, "min_score": 1}
    questions = [QUESTION, "the man at the door", "a blue square"]
    fresh = [engine.ask(video, question, features=False, **options) for question in questions]
    assert list(engine.archive.folder.rglob("features-*")) == []
    engine.index(video, features=True)
    stored = [engine.ask(video, question, **options) for question in questions]
    assert [said(answer) for answer in stored] == [said(answer) for answer in fresh]
    assert all(answer.spans for answer in fresh)
    assert not any(stage(answer, "frames").ran for answer in stored)
    assert all(stage(answer, "frames").ran for answer in fresh)


def test_indexing_makes_them_from_the_same_decoding(
    open_engine: OpenEngine, video: Path, scorer: Counted, opened: list[Path]
) -> None:
    engine = open_engine(scorer=scorer)
    result = engine.index(video, features=True)
    assert (result.outcome, result.features, result.features_note) == ("indexed", 41, None)
    assert result.seconds["features"] > 0
    assert engine.archive.verify_features(result.video_id) == 41
    assert opened == []
    again = engine.index(video, features=True)
    assert (again.outcome, again.features, sum(scorer.encoded)) == ("unchanged", 0, 41)
    whole = engine.ask(video, QUESTION, coarse=False, window=16)
    assert not stage(whole, "frames").ran
    assert opened == []


def test_an_index_without_them_is_completed(open_engine: OpenEngine, video: Path, scorer: Counted) -> None:
    engine = open_engine(scorer=scorer)
    first = engine.index(video, features=False)
    assert (first.features, list(engine.archive.folder.rglob("features-*"))) == (0, [])
    engine.ask(video, QUESTION, window=8)
    second = engine.index(video)
    assert (second.outcome, second.features) == ("unchanged", 41 - 8)
    assert engine.archive.verify_features(second.video_id) == 41
    # A lazily filled store and one that was made at once give the same answers.
    lazy = engine.ask(video, QUESTION)
    engine.drop_features(video)
    engine.index(video)
    assert said(engine.ask(video, QUESTION)) == said(lazy)


def test_they_are_made_by_default_if_a_sampler_was_named(
    open_engine: OpenEngine, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = open_engine(archive=tmp_path / "named")
    assert named.index(video).features == 41
    assert open_engine(archive=tmp_path / "preset", sampler=None).index(video).features == 0

    def must_not_load(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded to see that there is nothing to do")

    monkeypatch.setattr("hybrid.fine.load.load_scorer", must_not_load)
    assert open_engine(archive=tmp_path / "named").index(video).features == 0


def test_another_sampler_makes_its_own_beside_those_that_are_there(
    open_engine: OpenEngine, video: Path, other_gens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_engine().index(video)
    second = open_engine(sampler=str(other_gens)).index(video)
    assert (first.features, second.outcome, second.features) == (41, "unchanged", 41)
    engine = open_engine(sampler=str(other_gens))
    frames = stage(engine.ask(video, QUESTION), "frames")
    assert (frames.ran, frames.details["encoded"]) == (False, 0)
    manifest = engine.archive.require(first.video_id)
    assert [int(listed.present.sum()) for listed in engine.archive.feature_lists(manifest)] == [41, 41]

    def must_not_load(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded to see that there is nothing to do")

    monkeypatch.setattr("hybrid.fine.load.load_scorer", must_not_load)
    for sampler in ({}, {"sampler": str(other_gens)}):
        again = open_engine(**sampler).index(video)
        assert (again.features, again.features_note) == (0, None)


def test_that_features_of_another_sampler_do_not_count_is_said_where_its_own_cannot_be_made(
    open_engine: OpenEngine, video: Path
) -> None:
    open_engine().index(video)
    result = open_engine(sampler="/no/such/folder").index(video)
    assert (result.outcome, result.features) == ("unchanged", 0)
    assert "features were not made: there is no folder" in (result.features_note or "")


def test_whose_features_they_are_shows_without_loading(
    open_engine: OpenEngine, video: Path, gens_folder: Path, other_gens: Path, scorer: Counted
) -> None:
    identity = scorer.feature_identity
    made = {
        "own": find_feature_maker(gens_folder, device="cpu").made(identity),
        "other weights": find_feature_maker(other_gens, device="cpu").made(identity),
        "other precision": find_feature_maker(gens_folder, device="cpu", dtype="bfloat16").made(identity),
        "other size": find_feature_maker(
            gens_folder, device="cpu", prompt=replace(GENS_QWEN, frame_size=(56, 56))
        ).made(identity),
    }
    assert [name for name, own in made.items() if own] == ["own"]
    engine = open_engine()
    result = engine.index(video)
    (listed,) = engine.archive.feature_lists(engine.archive.require(result.video_id))
    assert listed.size_bytes == 41 * (find_feature_maker(gens_folder, device="cpu").frame_bytes or 0)


def test_an_estimate_counts_the_features_that_a_run_would_make(
    open_engine: OpenEngine, video: Path, gens_folder: Path, other_gens: Path, tmp_path: Path
) -> None:
    engine = open_engine()
    engine.ask(video, QUESTION, window=8)
    new = tmp_path / "new.mp4"
    write_demo_clip(new, DEMO_SCENES[:1])

    def counted(sampler: Path | None, videos: list[Path], *, features: bool | None = None) -> int:
        settings = EngineOptions(**{**engine.settings.given, "sampler": sampler})
        estimate = estimate_run(engine.archive, videos, settings, features=features)
        each = 0 if estimate.features == 0 else (estimate.feature_bytes or 0) / estimate.features
        assert each in (0, 16 * 64 * 4)
        return estimate.features

    assert counted(gens_folder, [video]) == 41 - 8
    assert counted(other_gens, [video]) == 41
    assert counted(other_gens, [video, new]) == 41 + 7
    assert counted(gens_folder, [video], features=False) == counted(None, [video, new]) == 0
    engine.index(video)
    assert counted(gens_folder, [video]) == 0
    gone = engine.settings.changed(sampler="/no/such/folder")
    assert "there is no folder" in (estimate_run(engine.archive, [video], gone).features_note or "")


def test_a_sampler_that_cannot_be_loaded_does_not_cost_the_index(
    open_engine: OpenEngine, video: Path, tmp_path: Path
) -> None:
    missing = str(tmp_path / "nothing")
    with pytest.raises(ModelLoadError, match="nothing"):
        open_engine(sampler=missing).index(video, features=True)
    assert list(open_engine().archive.manifests()) == []
    result = open_engine(sampler=missing).index(video)
    assert (result.outcome, result.features) == ("indexed", 0)
    assert "nothing" in str(result.features_note)
    again = open_engine(sampler=missing).index(video)
    assert "nothing" in str(again.features_note)


def test_a_tower_that_fails_half_way_does_not_cost_the_index(
    open_engine: OpenEngine, video: Path, scorer: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("an illegal memory access")

    monkeypatch.setattr(scorer, "encode_frames", broken)
    engine = open_engine(scorer=scorer)
    result = engine.index(video)
    assert "illegal memory access" in str(result.features_note)
    assert (result.outcome, result.features) == ("indexed", 0)
    assert list(engine.archive.folder.rglob("*features*")) == []


def test_a_scorer_without_features_still_works_and_says_why_it_keeps_none(open_engine: OpenEngine, video: Path) -> None:
    engine = open_engine(scorer=Recorded('{"1": 5}'))
    assert "cannot be given features" in str(engine.index(video).features_note)
    with pytest.raises(InputError, match="--features"):
        engine.index(video, features=True)
    assert stage(engine.ask(video, QUESTION), "frames").ran


def test_a_video_that_is_gone_can_be_asked_if_its_features_are_there(
    open_engine: OpenEngine, video: Path, scorer: Counted
) -> None:
    engine = open_engine(scorer=scorer)
    video_id = engine.index(video).video_id
    there = engine.ask(video, QUESTION)
    video.unlink()
    gone = engine.ask(video_id, QUESTION)
    assert said(gone) == said(there)
    assert not gone.degraded
    engine.drop_features(video_id)
    without = engine.ask(video_id, QUESTION)
    assert "does not exist" in str(stage(without, "frames").fallback_reason)


def test_a_video_that_is_gone_and_has_some_features_falls_back_and_says_how_many(
    open_engine: OpenEngine, video: Path, scorer: Counted
) -> None:
    engine = open_engine(scorer=scorer)
    engine.index(video, features=False)
    there = engine.ask(video, QUESTION, window=8)
    video.unlink()
    assert said(engine.ask(video, QUESTION, window=8)) == said(there)
    more = engine.ask(video, QUESTION, window=12)
    assert "there are no stored features of 4 of 12 frames" in str(stage(more, "frames").fallback_reason)
    assert not stage(more, "gens").ran
    assert {span.scorer for span in more.spans} == {"clip"}


def test_features_of_other_preprocessing_are_refused_with_the_reason_and_made_anew(
    open_engine: OpenEngine, video: Path, scorer: Counted, tiny_scorer: object
) -> None:
    engine = open_engine(scorer=scorer)
    engine.index(video, features=True)
    small = counted_from(tiny_scorer, frame_size=(56, 56))
    other = open_engine(scorer=small)
    answer = other.ask(video, QUESTION, window=8)
    (note,) = stage(answer, "frames").notes
    assert note.startswith("stored features are not used: frame_size: 112x112 -> 56x56")
    assert (stage(answer, "frames").ran, sum(small.encoded)) == (True, 8)
    assert said(answer) == said(other.ask(video, QUESTION, window=8, features=False))
    # The first ones are still there, for their own checkpoint.
    assert not stage(engine.ask(video, QUESTION), "frames").ran


def test_grids_that_are_not_square(open_engine: OpenEngine, video: Path, tiny_scorer: object) -> None:
    wide = counted_from(tiny_scorer, frame_size=None, min_pixels=56 * 56, max_pixels=112 * 112)
    engine = open_engine(scorer=wide)
    fresh = engine.ask(video, QUESTION, features=False)
    engine.index(video)
    (listed,) = engine.archive.feature_lists(engine.archive.require(fresh.video_id))
    assert listed.grids[0][0] != listed.grids[0][1]
    assert said(engine.ask(video, QUESTION)) == said(fresh)


@pytest.mark.parametrize("gone", [False, True])
def test_a_flipped_byte_is_found_and_never_answered_from(
    open_engine: OpenEngine, video: Path, scorer: Counted, gone: bool
) -> None:
    engine = open_engine(scorer=scorer)
    engine.index(video, features=True)
    sound = engine.ask(video, QUESTION)
    data = bytearray(values_file(engine).read_bytes())
    data[len(data) // 2] ^= 0x40
    values_file(engine).write_bytes(data)
    if gone:
        video.unlink()
        answer = engine.ask(sound.video_id, QUESTION)
        assert "there are no stored features of 1 of 41 frames" in str(stage(answer, "frames").fallback_reason)
        return
    answer = engine.ask(video, QUESTION)
    frames = stage(answer, "frames")
    assert said(answer) == said(sound)
    assert (frames.ran, frames.details["encoded"], frames.details["from_store"]) == (True, 1, 40)
    assert "the stored features of 1 frame are damaged" in frames.notes[0]
    assert not stage(engine.ask(video, QUESTION), "frames").ran
    assert engine.archive.verify_features(answer.video_id) == 41


def test_a_damaged_list_is_made_anew(open_engine: OpenEngine, video: Path, scorer: Counted) -> None:
    engine = open_engine(scorer=scorer)
    engine.index(video, features=True)
    sound = engine.ask(video, QUESTION)
    (path,) = engine.archive.folder.rglob("features-*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    answer = engine.ask(video, QUESTION)
    assert said(answer) == said(sound)
    assert "cannot be used and are made anew" in stage(answer, "frames").notes[0]
    assert not stage(engine.ask(video, QUESTION), "frames").ran


def test_they_survive_another_encoder_and_go_with_another_rate(
    open_engine: OpenEngine, video: Path, scorer: Counted, tmp_path: Path
) -> None:
    open_engine(scorer=scorer).index(video)
    other = make_untrained_clip(tmp_path / "other-clip", seed=5)
    engine = open_engine(scorer=scorer, encoder=f"local-dir:{other}")
    assert engine.index(video, features=False).outcome == "indexed"
    assert not stage(engine.ask(video, QUESTION), "frames").ran
    assert sum(scorer.encoded) == 41
    faster = open_engine(scorer=scorer, encoder=f"local-dir:{other}", rate=2.0)
    faster.index(video, features=False)
    assert list(faster.archive.folder.rglob("features-*")) == []


def test_an_archive_that_another_process_holds_costs_no_answer(
    open_engine: OpenEngine, video: Path, scorer: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.engine.features.store.LOCK_SECONDS", 0.05)
    engine = open_engine(scorer=scorer)
    video_id = engine.index(video, features=False).video_id
    with open_archive(engine.archive.folder) as other, other.lock(video_id):
        answer = engine.ask(video, QUESTION)
    assert "could not be kept" in stage(answer, "frames").notes[0]
    assert not answer.degraded
    assert stage(engine.ask(video, QUESTION), "frames").ran


def test_a_held_frame_has_its_features_once(open_engine: OpenEngine, tmp_path: Path, scorer: Counted) -> None:
    clip = write_demo_clip(tmp_path / "clip.mp4", [replace(DEMO_SCENES[0], seconds=1)])
    engine = open_engine(scorer=scorer, rate=60.0)
    result = engine.index(clip)
    timeline = engine.archive.timeline(result.video_id)
    assert result.features == len(timeline.distinct_rows()) == sum(scorer.encoded) < len(timeline)
    (listed,) = engine.archive.feature_lists(engine.archive.require(result.video_id))
    np.testing.assert_array_equal(np.flatnonzero(listed.present), timeline.distinct_rows())
    assert not stage(engine.ask(clip, QUESTION, window=10), "frames").ran


def test_video_mode_keeps_none_and_says_so(open_engine: OpenEngine, video: Path, gens_folder: Path) -> None:
    prompt = replace(GENS_QWEN, frame_label="", mode="video", max_new_tokens=24)
    pairs = load_scorer(gens_folder, device="cpu", prompt=prompt, loop=LoopOptions(constrained=True))
    engine = open_engine(scorer=pairs)
    assert "video mode" in str(engine.index(video).features_note)
    answer = engine.ask(video, QUESTION, window=8)
    assert "video mode" in stage(answer, "frames").notes[0]
    assert answer.reply is not None


def test_constrained_replies_are_chosen_by_an_option(
    open_engine: OpenEngine, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def load(name: str, *, loop: LoopOptions | None = None, **_: object) -> Recorded:
        seen.append(loop)
        return Recorded('{"1": 5}')

    monkeypatch.setattr("hybrid.fine.load.load_scorer", load)
    for constrained in (False, True):
        open_engine(constrained=constrained).ask(video, QUESTION)
    assert seen == [None, LoopOptions(constrained=True)]


def test_the_features_of_a_window_are_the_towers_own(open_engine: OpenEngine, video: Path, scorer: Counted) -> None:
    import torch

    from hybrid.engine.features.encoder import features_of, items_of, spec_of

    engine = open_engine(scorer=scorer)
    engine.index(video)
    frames = [scorer.prepare(image) for _, image in engine.read_frames(video, [3, 4, 9])]
    features = scorer.encode_frames(frames)
    again = features_of(items_of(features), spec_of(scorer), seconds={})
    assert again.grids == features.grids
    for one, two in zip(again.items, features.items, strict=True):
        assert one.dtype == two.dtype
        assert torch.equal(one, two)
    half = [item.to(torch.bfloat16) for item in features.items]
    spec = replace(spec_of(scorer), dtype="bfloat16")
    back = features_of(items_of(replace(features, items=tuple(half))), spec, seconds={})
    assert all(torch.equal(one, two) for one, two in zip(back.items, half, strict=True))
    assert back.key != again.key
