"""The world: the same seed gives the same video, and its truth is what the pictures show."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.world.draw import draw_scene
from bench.world.exam import exam_video
from bench.world.film import film_world
from bench.world.questions import KINDS, WORDINGS, ask_questions, choose_questions
from bench.world.scenes import FRAME_RATES, VISIBLE_LEVEL, WORLD_VERSION, Split, World, make_scene, make_world
from bench.world.things import ALL_THINGS, COLOURS, HELD_OUT, NAMELESS_SHAPES, SEEN_THINGS, SHAPES, Thing
from bench.world.training.gens_model import make_tokenizer
from bench.world.training.windows import write_reply
from hybrid.errors import InputError
from hybrid.fine.reply import parse_reply
from hybrid.frames.registry import open_source
from hybrid.values import ByteArray, Sampling

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def test_held_out_pairs_leave_every_colour_and_shape_in_training() -> None:
    assert len(ALL_THINGS) == 48
    assert {thing.colour for thing in SEEN_THINGS} == set(COLOURS)
    assert {thing.shape for thing in SEEN_THINGS} == set(SHAPES)
    assert sorted(thing.shape for thing in HELD_OUT) == sorted(SHAPES)


@pytest.mark.parametrize("split", SPLITS)
def test_the_seed_decides_everything(split: Split) -> None:
    assert make_world(split, 3) == make_world(split, 3)
    assert make_world(split, 3) != make_world(split, 4)
    assert {make_world(split, seed).frame_rate for seed in range(40)} == set(FRAME_RATES)


def test_splits_share_no_video_and_training_shows_no_held_out_pair() -> None:
    assert make_world("validation", 1).scenes != make_world("test", 1).scenes
    shown = {thing for seed in range(30) for scene in make_world("train", seed).scenes for thing in scene.things}
    assert shown == set(SEEN_THINGS)
    shown = {thing for seed in range(30) for scene in make_world("test", seed).scenes for thing in scene.things}
    assert shown == set(ALL_THINGS)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_scenes_follow_each_other_and_two_things_never_change_sides(seed: int) -> None:
    world = make_world("validation", seed, seconds=60)
    for before, scene in zip(world.scenes, world.scenes[1:], strict=False):
        assert before.end_seconds == scene.start_seconds
        assert not set(before.things) & set(scene.things)
    for scene in world.scenes:
        assert 2.0 <= scene.end_seconds - scene.start_seconds <= 12.0
        for seconds in np.linspace(0, 12, 30):
            centres = [placement.centre(float(seconds))[0] for placement in scene.placements]
            assert centres == sorted(centres)
            assert all(0.05 < x < 0.95 for x in centres)


def test_questions_are_asked_only_where_the_answer_is_certain() -> None:
    for seed in range(20):
        world = make_world("validation", seed)
        for question in ask_questions(world, np.random.default_rng(0)):
            showing = [scene for scene in world.scenes if question.things[0] in scene.things]
            if question.kind in ("after", "before"):
                assert list(question.anchors) == showing
                step = 1 if question.kind == "after" else -1
                place = world.scenes.index(question.anchors[0])
                assert question.answers == (world.scenes[place + step],)
            elif question.kind == "relation":
                assert all(scene.things == question.things for scene in question.answers)
            elif question.kind == "object":
                assert list(question.answers) == showing
            else:
                assert len(showing) > 1
                assert question.answers == ((showing[0] if question.kind == "first" else showing[-1]),)


def test_a_choice_of_questions_has_every_kind_and_is_the_same_each_time() -> None:
    world = make_world("test", 2)
    chosen = choose_questions(world, per_kind=3)
    assert {question.kind for question in chosen} == set(KINDS)
    assert [question.text for question in chosen] == [q.text for q in choose_questions(world, per_kind=3)]
    assert all(re.search(r"\w+ (circle|square|triangle|star|cross|ring)", question.text) for question in chosen)


def test_truth_is_by_scene_and_nothing_counts_in_the_dark_of_a_fade() -> None:
    world = make_world("test", 2)
    faded = next(scene for scene in world.scenes[1:-1] if scene.fade_out)
    dark, bright = faded.end_seconds - 0.01, (faded.start_seconds + faded.end_seconds) / 2
    assert faded.level(dark) < VISIBLE_LEVEL < faded.level(bright)
    assert (world.visible_at(dark), world.visible_at(bright)) == ((), faded.things)
    question = next(q for q in ask_questions(world, np.random.default_rng(0)) if faded in q.answers)
    assert question.scores_at(np.array([dark, bright])).tolist() == [0, 5]


@pytest.mark.parametrize("shape", [*SHAPES, *NAMELESS_SHAPES])
def test_a_thing_is_drawn_in_its_colour_where_it_is_said_to_be(shape: str) -> None:
    rng = np.random.default_rng(1)
    scene = replace(make_scene(rng, [Thing("red", shape)]), brightness=1.0)
    picture = draw_scene(scene, 3.0, width=320, height=240).astype(int)
    redness = picture[:, :, 0] - picture[:, :, 1]
    rows, columns = np.nonzero(redness > 100)
    x, y = scene.placements[0].centre(3.0)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(x * 320, abs=12)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(y * 240, abs=12)


def test_shapes_look_different() -> None:
    def outline(shape: str) -> ByteArray:
        scene = make_scene(np.random.default_rng(1), [Thing("red", shape)])
        return draw_scene(scene, 3.0, width=320, height=240)

    pictures = [outline(shape).astype(int) for shape in (*SHAPES, *NAMELESS_SHAPES)]
    for number, picture in enumerate(pictures):
        for other in pictures[number + 1 :]:
            assert (np.abs(picture - other).sum(axis=2) > 60).sum() > 300


def test_a_filmed_world_decodes_to_what_it_shows(tmp_path: Path) -> None:
    world = make_world("test", 5, seconds=12, frame_rate=Fraction(30000, 1001))
    assert_shows(film_world(world, tmp_path / "world.mp4"), world)


def assert_shows(video: Path, world: World) -> None:
    with open_source(video, Sampling()) as source:
        for batch in source.read():
            for seconds, picture in zip(batch.pts_seconds.tolist(), batch.rgb, strict=True):
                drawn = _drawn(world, seconds)
                assert np.abs(picture.astype(int) - drawn.astype(int)).mean() < 8, seconds


def _drawn(world: World, seconds: float) -> ByteArray:
    return draw_scene(world.scene_at(seconds), seconds, width=world.width, height=world.height)


@given(st.lists(st.sampled_from([0, 0, 4, 5]), min_size=1, max_size=256))
def test_a_written_reply_reads_back(scores: list[int]) -> None:
    parsed = parse_reply(write_reply(np.array(scores)), len(scores))
    assert parsed.scores == {place: score for place, score in enumerate(scores) if score}
    assert parsed.notes == () or not any(scores)


def test_numbers_and_words_of_the_world_are_single_tokens() -> None:
    tokenizer = make_tokenizer()
    for text in [*map(str, range(256)), *(f" {word}" for word in (*COLOURS, *SHAPES))]:
        assert len(tokenizer.encode(text, add_special_tokens=False)) == 1, text
    for wording in (wording for wordings in WORDINGS.values() for wording in wordings):
        ids = tokenizer.encode(wording.format(a="red star", b="blue ring"), add_special_tokens=False)
        assert tokenizer.decode(ids) == wording.format(a="red star", b="blue ring")


def test_two_processes_film_one_world_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one begins and ends while the first is half-way, and has written something."""
    world, video, begun = make_world("test", 5, seconds=3), tmp_path / "world.mp4", [0]
    frames = int(world.duration_seconds * world.frame_rate)

    def drawn(*arguments: Any, **options: Any) -> ByteArray:
        begun[0] += 1
        if begun[0] == frames // 2:
            film_world(world, video)
            assert video.exists()
        return draw_scene(*arguments, **options)

    monkeypatch.setattr("bench.world.film.draw_scene", drawn)
    film_world(world, video)
    assert begun[0] == 2 * frames
    assert_shows(video, world)
    assert [path.name for path in tmp_path.iterdir()] == ["world.mp4"]


def test_a_film_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: Any, **options: Any) -> ByteArray:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.world.film.draw_scene", failing)
    with pytest.raises(KeyboardInterrupt):
        film_world(make_world("test", 5, seconds=3), tmp_path / "world.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"split": "exam"}, "the split is 'exam'"),
        ({"seed": -1}, "the seed is -1"),
        ({"seed": 1_000_000_000}, "the seed is 1000000000"),
        ({"seconds": 0.0}, "0.0 s"),
        ({"seconds": float("inf")}, "inf s"),
        ({"noise": -1.0}, "the noise is -1.0"),
        ({"shortest": 0.0}, "0.0 to 12.0 s"),
        ({"shortest": 5.0, "longest": 4.0}, "5.0 to 4.0 s"),
        ({"things": 2}, "2 kinds of things; legal are 3 to 48"),
        ({"things": 49}, "49 kinds of things"),
        ({"frame_rate": Fraction(0)}, "the frame rate is 0"),
    ],
)
def test_worlds_that_cannot_be_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        make_world(**{"split": "test", "seed": 1, **options})


def test_the_fewest_things_suffice() -> None:
    world = make_world("train", 3, seconds=200.0, things=3)
    assert all(scene.things for scene in world.scenes)
    for before, after in pairwise(world.scenes):
        assert not set(before.things) & set(after.things)


def test_names_of_films_hold_the_version_of_the_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world("test", 5, seconds=3)
    now = exam_video(tmp_path, world, seconds=3)
    assert now.name == f"test-005-3s-24-v{WORLD_VERSION}.mp4"
    monkeypatch.setattr("bench.world.exam.WORLD_VERSION", WORLD_VERSION + 1)
    assert exam_video(tmp_path, world, seconds=3) != now


def test_a_world_that_is_drawn_otherwise_has_another_version() -> None:
    """Change these numbers only together with ``WORLD_VERSION``: films that are kept would be stale."""
    world = make_world("test", 5, seconds=60.0)
    scene = world.scenes[1]
    picture = draw_scene(replace(scene, noise=0.0), scene.start_seconds + 1.0, width=320, height=240)
    seen = [len(world.scenes), world.duration_seconds, scene.placements[0].x, *picture.mean(axis=(0, 1)).tolist()]
    assert [WORLD_VERSION, *seen] == pytest.approx([1, 9, 67.33488, 0.636829, 97.266, 95.449, 90.548], rel=1e-3)
