"""Asking through the engine: mapping, spans, fallbacks, and the record of what ran."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid.answers import Answer, Stage
from hybrid.engine import Engine
from hybrid.engine.models import ModelPool
from hybrid.errors import (
    IndexMismatchError,
    InputError,
    ModelLoadError,
    OutOfMemoryError,
    StageFailedError,
    VideoOpenError,
)
from hybrid.fine.interface import FineModel
from hybrid.frames.registry import open_source
from hybrid.values import Sampling
from tests.demo_clip import DEMO_SCENES, write_demo_clip
from tests.engine.conftest import Recorded

OpenEngine = Callable[..., Engine]
PUBLISHED = '{"11-12": 5, "16-21": 4, "28-30": 4, "46-49": 4, "22-27": 3, "33": 2}'
GENS_QUESTION = "After styling the lady's hair, what action did the maid perform next?"


def stage(answer: Answer, name: str) -> Stage:
    return next(stage for stage in answer.stages if stage.name == name)


def test_the_published_reply_to_the_gens_example_selects_seconds_11_and_12_first(
    open_engine: OpenEngine, shared_data: Path
) -> None:
    engine = open_engine(scorer=Recorded(PUBLISHED))
    answer = engine.ask(shared_data / "gens_example", GENS_QUESTION, frames=2)
    assert [frame.seconds for frame in answer.frames] == [11.0, 12.0]
    assert [frame.frame_number for frame in answer.frames] == [11, 12]
    assert [frame.gens_score for frame in answer.frames] == [5, 5]
    assert (answer.spans[0].start_seconds, answer.spans[0].end_seconds, answer.spans[0].score) == (11.0, 13.0, 5.0)
    assert not answer.degraded
    assert answer.reply == PUBLISHED


def test_every_stage_runs_on_the_gens_example_with_a_real_checkpoint(
    open_engine: OpenEngine, tiny_scorer: FineModel, shared_data: Path
) -> None:
    answer = open_engine(scorer=tiny_scorer).ask(shared_data / "gens_example", GENS_QUESTION)
    assert [s.name for s in answer.stages] == ["index", "coarse", "frames", "gens", "select"]
    assert stage(answer, "coarse").candidates_in == 51
    assert stage(answer, "frames").candidates_out == 51
    gens = stage(answer, "gens")
    assert gens.candidates_in == 51
    assert gens.details["prompt_tokens"] > 51 * 16
    assert gens.details["new_tokens"] > 0
    assert answer.reply is not None
    assert Answer.from_json(answer.to_json()) == answer


def test_positions_of_a_scattered_window_become_the_right_frames(open_engine: OpenEngine, demo_clip: Path) -> None:
    """The frames that GenS is shown are those of the window, and its labels come back to them."""
    scorer = Recorded('{"2": 5, "5": 3}')
    answer = open_engine(scorer=scorer).ask(demo_clip, "a red circle", window=8, frames=4)
    coarse = open_engine().ask(demo_clip, "a red circle", fine=False, frames=8)
    window = [frame.ordinal for frame in coarse.frames]
    assert len(scorer.shown[0]) == 8
    assert [frame.ordinal for frame in answer.frames] == [window[2], window[5]]
    with open_source(demo_clip, Sampling()) as source:
        (batch,) = list(source.read(ordinals=window))
    for shown, image in zip(scorer.shown[0], batch.rgb, strict=True):
        np.testing.assert_array_equal(shown, image[::2, ::2])


def test_with_context_gens_reads_the_best_frames_and_what_is_around_them(
    open_engine: OpenEngine, demo_clip: Path
) -> None:
    """One frame a second: with 2 s around it, the best frame stands in the middle of five."""
    (best,) = open_engine().ask(demo_clip, "a red circle", fine=False, frames=1).frames
    scorer = Recorded('{"3": 5}')
    answer = open_engine(scorer=scorer).ask(
        demo_clip, "a red circle", window=5, window_mode="context", context_seconds=2.0
    )
    assert [frame.ordinal for frame in answer.frames] == [best.ordinal + 1]
    with open_source(demo_clip, Sampling()) as source:
        (batch,) = list(source.read(ordinals=list(range(best.ordinal - 2, best.ordinal + 3))))
    assert len(scorer.shown[0]) == 5
    for shown, image in zip(scorer.shown[0], batch.rgb, strict=True):
        np.testing.assert_array_equal(shown, image[::2, ::2])


def test_without_a_coarse_stage_gens_reads_everything_in_windows(open_engine: OpenEngine, demo_clip: Path) -> None:
    scorer = Recorded('{"0": 3}', '{"1": 5}', '{"15": 4}')
    answer = open_engine(scorer=scorer).ask(demo_clip, "a red circle", window=16, coarse=False)
    assert [len(frames) for frames in scorer.shown] == [16, 16, 9]
    # Position 15 of the third window, which holds 9 frames, is out of range and dropped with a note.
    assert [(frame.ordinal, frame.gens_score) for frame in answer.frames] == [(0, 3), (17, 5)]
    assert stage(answer, "gens").notes
    assert all(frame.clip_similarity is None for frame in answer.frames)
    assert "coarse" not in [s.name for s in answer.stages]


@pytest.mark.parametrize("select", [None, "aks"])
def test_that_nothing_answers_is_an_answer(open_engine: OpenEngine, demo_clip: Path, select: str | None) -> None:
    engine = open_engine(scorer=Recorded("{}"))
    answer = engine.ask(demo_clip, "a red circle", frames=5, select=select, strict=True)
    plain = open_engine().ask(demo_clip, "a red circle", frames=5, fine=False, select=select)
    gens = stage(answer, "gens")
    assert gens.ran
    assert not answer.degraded
    assert "no frame that was read answers" in str(gens.notes)
    assert answer.spans == ()
    assert [frame.ordinal for frame in answer.frames] == [frame.ordinal for frame in plain.frames]
    assert all(frame.gens_score is None for frame in answer.frames)


def test_no_more_frames_than_were_scored(open_engine: OpenEngine, demo_clip: Path) -> None:
    answer = open_engine(scorer=Recorded('{"3-5": 4}')).ask(demo_clip, "a red circle", frames=32)
    assert len(answer.frames) == 3


def test_scores_below_the_threshold_give_frames_but_no_span_and_this_is_said(
    open_engine: OpenEngine, demo_clip: Path
) -> None:
    answer = open_engine(scorer=Recorded('{"3-5": 3}')).ask(demo_clip, "a red circle")
    assert answer.spans == ()
    assert len(answer.frames) == 3
    assert "no frame scored 4 or more (best: 3)" in stage(answer, "select").notes[0]
    assert not answer.degraded
    lower = open_engine(scorer=Recorded('{"3-5": 3}')).ask(demo_clip, "a red circle", min_score=3)
    assert len(lower.spans) == 1


def test_an_empty_reply_falls_back_and_says_so(open_engine: OpenEngine, demo_clip: Path) -> None:
    engine = open_engine(scorer=Recorded("I see nothing of that kind."))
    answer = engine.ask(demo_clip, "a red circle", frames=5)
    plain = engine.ask(demo_clip, "a red circle", frames=5, fine=False)
    assert answer.degraded
    assert "no scores" in str(stage(answer, "gens").fallback_reason)
    assert not stage(answer, "gens").ran
    assert answer.reply == "I see nothing of that kind."
    assert answer.frames == plain.frames
    assert {span.scorer for span in answer.spans} == {"clip"}
    assert not plain.degraded
    with pytest.raises(StageFailedError, match="gens"):
        engine.ask(demo_clip, "a red circle", strict=True)


def test_missing_weights_fall_back_and_say_so(open_engine: OpenEngine, demo_clip: Path, tmp_path: Path) -> None:
    engine = open_engine(sampler=str(tmp_path / "no-such-checkpoint"))
    answer = engine.ask(demo_clip, "a red circle")
    gens = stage(answer, "gens")
    assert not gens.ran
    assert "no-such-checkpoint" in str(gens.fallback_reason)
    assert gens.model == str(tmp_path / "no-such-checkpoint")
    assert len(answer.frames) == 32
    with pytest.raises(StageFailedError):
        engine.ask(demo_clip, "a red circle", strict=True)


def test_a_device_that_is_too_small_is_said(open_engine: OpenEngine, demo_clip: Path) -> None:
    class Small(Recorded):
        def score(self, frames, question):
            if len(frames) > 20:
                raise OutOfMemoryError("out of memory")
            return super().score(frames, question)

    engine = open_engine(scorer=Small('{"1": 5}'))
    answer = engine.ask(demo_clip, "a red circle")
    assert stage(answer, "gens").ran
    assert "windows were cut to 11 frames" in str(stage(answer, "gens").fallback_reason)
    assert answer.degraded
    with pytest.raises(StageFailedError, match="cut to 11"):
        engine.ask(demo_clip, "a red circle", strict=True)


def test_a_device_that_holds_no_frame_falls_back(open_engine: OpenEngine, demo_clip: Path) -> None:
    class None_(Recorded):
        def score(self, frames, question):
            raise OutOfMemoryError("1 frame does not fit")

    answer = open_engine(scorer=None_("{}")).ask(demo_clip, "a red circle", frames=3)
    assert "1 frame does not fit" in str(stage(answer, "gens").fallback_reason)
    assert len(answer.frames) == 3


def test_a_video_that_is_gone_is_still_answered_from_its_index(
    open_engine: OpenEngine, demo_clip: Path, tmp_path: Path
) -> None:
    video = tmp_path / "short-lived.mp4"
    video.write_bytes(demo_clip.read_bytes())
    engine = open_engine(scorer=Recorded('{"1": 5}'))
    video_id = engine.index(video).video_id
    video.unlink()
    for name in (str(video), video_id):
        answer = engine.ask(name, "a red circle", frames=3)
        assert len(answer.frames) == 3
        assert "does not exist" in str(stage(answer, "frames").fallback_reason)
        assert not stage(answer, "gens").ran
    video.write_bytes(demo_clip.read_bytes())
    assert not engine.ask(video_id, "a red circle", frames=3).degraded
    with pytest.raises(VideoOpenError, match="does not know it"):
        engine.ask(tmp_path / "never-seen.mp4", "a red circle")


def test_a_question_that_is_too_long_for_clip_is_said(open_engine: OpenEngine, demo_clip: Path) -> None:
    answer = open_engine().ask(demo_clip, "a red circle and " * 40, fine=False)
    assert "reads 77 tokens" in stage(answer, "coarse").notes[0]


def test_asking_indexes_first_and_says_so(open_engine: OpenEngine, demo_clip: Path) -> None:
    engine = open_engine()
    first = stage(engine.ask(demo_clip, "a red circle", fine=False), "index")
    assert (first.ran, first.device, first.details["outcome"]) == (True, "cpu", "indexed")
    assert "indexed now" in first.notes[0]
    again = stage(engine.ask(demo_clip, "a red circle", fine=False), "index")
    assert (again.ran, again.notes, again.details["outcome"]) == (False, (), "found")


def test_the_coarse_stage_is_exact(open_engine: OpenEngine, demo_clip: Path) -> None:
    engine = open_engine()
    answer = engine.ask(demo_clip, "a red circle", fine=False, frames=7)
    vectors = engine.archive.read(answer.video_id)
    text = ModelPool(engine.settings).encoder_for(None).encode_text("a red circle").vector
    best = np.sort(np.argsort(-(vectors @ text), kind="stable")[:7])
    assert [frame.ordinal for frame in answer.frames] == best.tolist()
    for frame in answer.frames:
        assert frame.clip_similarity == pytest.approx(float(vectors[frame.ordinal] @ text), abs=1e-5)


def test_faiss_and_lancedb_give_the_same_answer(open_engine: OpenEngine, demo_clip: Path, tmp_path: Path) -> None:
    answers = [
        open_engine(backend=backend, archive=tmp_path / backend).ask(demo_clip, "a blue circle", fine=False, frames=9)
        for backend in ("faiss", "lancedb")
    ]
    first, second = ([(f.ordinal, f.seconds) for f in answer.frames] for answer in answers)
    assert first == second


@pytest.mark.parametrize(
    "options",
    [
        {"frames": 0},
        {"window": 0},
        {"min_score": 0},
        {"min_score": 6},
        {"gap_seconds": -1.0},
        {"coarse": False, "fine": False},
        {"window_mode": "around"},
        {"window_mode": "context", "coarse": False},
        {"context_seconds": -1.0},
        {"context_seconds": float("nan")},
    ],
)
def test_options_that_are_not_legal_are_refused(
    open_engine: OpenEngine, demo_clip: Path, options: dict[str, object]
) -> None:
    with pytest.raises(InputError):
        open_engine().ask(demo_clip, "a red circle", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"context_seconds": 4.0},
            r"context_seconds is 4.0 .*--context.* window_mode is 'scattered'; take --window con",
        ),
        (
            {"segments": 4, "window_mode": "context"},
            r"segments is 4 .* window_mode is 'context'; take --window segments",
        ),
        (
            {"fine": False, "window": 256},
            r"window is 256 \(--window-frames\), which is for GenS.* leave out .*--no-fine",
        ),
        ({"fine": False, "window_mode": "scattered"}, r"window_mode is 'scattered' \(--window\), which is for GenS"),
        ({"fine": False, "min_score": 4}, r"min_score is 4 \(--min-score\), which is for GenS"),
        ({"fine": False, "features": False}, r"features is False \(--no-features\), which is for GenS"),
        ({"seed": 3}, "seed is 3, which is for selectors that draw"),
        ({"seed": 3, "select": "aks"}, "the selector 'aks' does not draw"),
        ({"seed": 3, "select": "focus:seed=4"}, "'focus:seed=4' has its own"),
    ],
)
def test_options_that_would_decide_nothing_are_refused_before_any_work(
    open_engine: OpenEngine, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    # Also where the value is the usual one: whoever says it expects something of it.
    with pytest.raises(InputError, match=message):
        open_engine().ask(tmp_path / "none.mp4", "a red circle", **options)  # type: ignore[arg-type]


def test_what_is_none_was_not_said(open_engine: OpenEngine, demo_clip: Path) -> None:
    nothing: Any = {
        "window": None,
        "window_mode": None,
        "segments": None,
        "min_score": None,
        "look_for": None,
        "frames": None,
        "seed": None,
    }
    engine = open_engine(scorer=None)
    (answer,) = engine.ask_many(demo_clip, ["a red circle"], fine=False, **nothing)
    plain = engine.ask(demo_clip, "a red circle", fine=False)
    assert answer.frames == plain.frames
    assert engine.configuration(demo_clip, **nothing) == engine.configuration(demo_clip)
    found = [engine.search("a red circle", ask=ask).videos for ask in (nothing, None)]
    assert found[0] == found[1] != ()
    with pytest.raises(InputError, match="strict = False, which is an option of the search"):
        engine.search("a red circle", ask={**nothing, "strict": False})


@pytest.mark.parametrize("question", ["", "   ", "\n"])
def test_an_empty_question_is_refused(open_engine: OpenEngine, demo_clip: Path, question: str) -> None:
    with pytest.raises(InputError, match="empty"):
        open_engine().ask(demo_clip, question, fine=False)


def test_a_video_of_one_frame(open_engine: OpenEngine, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "one"
    folder.mkdir()
    Image.new("RGB", (40, 30), (200, 0, 0)).save(folder / "sec000.png")
    answer = open_engine(scorer=Recorded('{"0": 5}')).ask(folder, "red")
    assert [(s.start_seconds, s.end_seconds) for s in answer.spans] == [(0.0, 1.0)]
    assert len(answer.frames) == 1


def test_selected_frames_can_be_read_at_their_full_size(open_engine: OpenEngine, demo_clip: Path) -> None:
    engine = open_engine()
    answer = engine.ask(demo_clip, "a red circle", fine=False, frames=3)
    images = dict(engine.read_frames(demo_clip, [frame.ordinal for frame in answer.frames]))
    assert [image.shape for image in images.values()] == [(240, 320, 3)] * 3


def test_another_video_in_the_old_place_is_not_taken_for_the_indexed_one(
    open_engine: OpenEngine, demo_clip: Path, tmp_path: Path
) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(demo_clip.read_bytes())
    scorer = Recorded('{"1": 5}')
    engine = open_engine(scorer=scorer)
    video_id = engine.index(video).video_id
    write_demo_clip(video, DEMO_SCENES[:1])
    answer = engine.ask(video_id, "a red circle", frames=3)
    assert scorer.shown == []
    assert "another video lies at" in str(stage(answer, "frames").fallback_reason)
    with pytest.raises(VideoOpenError, match="another video"):
        list(engine.read_frames(video_id, [0]))


def test_a_moved_video_is_found_by_its_id(open_engine: OpenEngine, demo_clip: Path, tmp_path: Path) -> None:
    engine = open_engine(scorer=Recorded('{"1": 5}'))
    old, new = tmp_path / "old.mp4", tmp_path / "new.mp4"
    old.write_bytes(demo_clip.read_bytes())
    video_id = engine.index(old).video_id
    old.rename(new)
    assert engine.index(new).outcome == "unchanged"
    answer = engine.ask(video_id, "a red circle")
    assert answer.video == str(new)
    assert not answer.degraded


def test_one_unnamed_frame_between_two_is_bridged_at_29_97_frames_a_second(
    open_engine: OpenEngine, demo_clip: Path
) -> None:
    answer = open_engine(scorer=Recorded('{"3": 5, "5": 5}')).ask(demo_clip, "a red circle")
    assert len(answer.spans) == 1
    two = open_engine(scorer=Recorded('{"3": 5, "6": 5}')).ask(demo_clip, "a red circle")
    assert len(two.spans) == 2


def test_an_index_of_another_rate_is_refused_also_without_a_coarse_stage(
    open_engine: OpenEngine, demo_clip: Path
) -> None:
    open_engine().index(demo_clip)
    engine = open_engine(scorer=Recorded('{"1": 5}'), rate=2.0)
    with pytest.raises(IndexMismatchError, match=r"rate: 1\.0 -> 2\.0.*--rate 2"):
        engine.ask(demo_clip, "a red circle", coarse=False)


def test_a_held_frame_is_shown_and_selected_once(open_engine: OpenEngine, tmp_path: Path) -> None:
    clip = write_demo_clip(tmp_path / "clip.mp4", DEMO_SCENES[:1])
    scorer = Recorded('{"0-9": 5}')
    answer = open_engine(scorer=scorer, rate=60.0).ask(clip, "a red circle", window=10, frames=10)
    assert len(scorer.shown[0]) == 10
    assert len({frame.seconds for frame in answer.frames}) == 10
    plain = open_engine().ask(clip, "a red circle", fine=False, frames=50)
    assert len({frame.seconds for frame in plain.frames}) == 50
    whole = Recorded('{"0": 5}')
    open_engine(scorer=whole).ask(clip, "a red circle", coarse=False, window=1000)
    assert len(whole.shown[0]) == 180


def test_a_window_without_a_usable_reply_is_said(open_engine: OpenEngine, demo_clip: Path) -> None:
    engine = open_engine(scorer=Recorded('{"3": 5}', "I cannot say.", "{}"))
    answer = engine.ask(demo_clip, "a red circle", window=16, coarse=False)
    gens = stage(answer, "gens")
    # A bare {} says that nothing in its window is relevant, and is no fault.
    assert "1 of 3 windows gave no usable reply: [2]" in str(gens.fallback_reason)
    assert any(note.startswith("window 2: ") for note in gens.notes)
    assert gens.ran


def test_whatever_the_sampler_raises_leaves_the_coarse_answer(open_engine: OpenEngine, demo_clip: Path) -> None:
    class Broken(Recorded):
        def score(self, frames, question):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    answer = open_engine(scorer=Broken("{}")).ask(demo_clip, "a red circle", frames=3)
    assert "illegal memory access" in str(stage(answer, "gens").fallback_reason)
    assert len(answer.frames) == 3


def test_a_failed_load_is_not_tried_again_for_each_question_and_keeps_nothing_alive(
    open_engine: OpenEngine, demo_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    errors: list[weakref.ref[ModelLoadError]] = []

    def load(name: str, **_: object) -> FineModel:
        calls.append(name)
        error = ModelLoadError(f"{name} cannot be loaded")
        errors.append(weakref.ref(error))
        raise error

    monkeypatch.setattr("hybrid.fine.load.load_scorer", load)
    engine = open_engine(sampler="nothing")
    for _ in range(3):
        assert "cannot be loaded" in str(stage(engine.ask(demo_clip, "a red circle"), "gens").fallback_reason)
    assert calls == ["nothing"]
    gc.collect()
    assert [error() for error in errors] == [None]


def test_a_device_that_was_full_is_tried_again(
    open_engine: OpenEngine, demo_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = False

    def load(name: str, **_: object) -> FineModel:
        if not free:
            raise OutOfMemoryError("the weights do not fit")
        return Recorded('{"1": 5}')

    monkeypatch.setattr("hybrid.fine.load.load_scorer", load)
    engine = open_engine(sampler="large")
    assert engine.ask(demo_clip, "a red circle").degraded
    free = True
    assert not engine.ask(demo_clip, "a red circle").degraded


def test_a_damaged_prompt_beside_a_checkpoint_falls_back(
    open_engine: OpenEngine, demo_clip: Path, gens_folder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "checkpoint"
    shutil.copytree(gens_folder, broken)
    (broken / "hybrid_prompt.json").write_text('{"frame_lable": "x"}')
    answer = open_engine(sampler=str(broken)).ask(demo_clip, "a red circle")
    assert "frame_lable" in str(stage(answer, "gens").fallback_reason)
