"""One question to a whole archive: the right videos, each frame once, and everything left out is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from hybrid.answers import SearchResult
from hybrid.clip.interface import TextVector
from hybrid.engine import Engine
from hybrid.errors import (
    IndexMismatchError,
    InputError,
    StageFailedError,
    VideoNotIndexedError,
)
from hybrid.fine.interface import FineModel
from hybrid.options.engine import EngineOptions
from hybrid.values import ByteArray, Float32Array, Timeline
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.manifest import Manifest
from indexes.open_archive import open_archive
from tests.demo_clip import DEMO_SCENES, write_demo_clip
from tests.engine.conftest import Recorded

OpenEngine = Callable[..., Engine]

DIMENSION = 24


class ColourEncoder:
    """An encoder without a model: a picture is the colours of its parts, a question is a direction."""

    name, device = "colours", "cpu"
    identity: Mapping[str, str] = {"model": "colours", "weights": "none", "precision": "float32"}

    def encode_frames(self, frames: Iterable[ByteArray]) -> Iterator[Float32Array]:
        for frame in frames:
            height, width, _ = frame.shape
            parts = frame[: height // 2 * 2, : width // 4 * 4].reshape(2, height // 2, 4, width // 4, 3)
            colours = parts.mean(axis=(1, 3)).astype(np.float32).reshape(1, DIMENSION) - 100
            yield colours / np.linalg.norm(colours)

    def encode_text(self, text: str) -> TextVector:
        drawn = np.random.default_rng(list(text.encode())).standard_normal(DIMENSION).astype(np.float32)
        return TextVector(vector=drawn / np.linalg.norm(drawn), tokens=3, context_length=77)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three clips of a few seconds, one of them in a folder of its own."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "deep").mkdir()
    return [
        write_demo_clip(folder / place, [replace(DEMO_SCENES[number], seconds=4)])
        for number, place in enumerate(["a.mp4", "b.mp4", "deep/c.mp4"])
    ]


@pytest.fixture(scope="module")
def filled(clips: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled") / "archive"
    with Engine(open_archive(folder), EngineOptions(device="cpu"), encoder=ColourEncoder()) as engine:
        for clip in clips:
            engine.index(clip)
    return folder


@pytest.fixture
def archive(filled: Path, tmp_path: Path) -> Path:
    """An archive that a test may change."""
    return shutil.copytree(filled, tmp_path / "copy")


@pytest.fixture
def open_engine() -> Iterator[OpenEngine]:
    """``open_engine(archive=FOLDER, scorer=...)``."""
    opened: list[Engine] = []

    def make(*, archive: Path, scorer: FineModel | None = None) -> Engine:
        opened.append(
            Engine(open_archive(archive), EngineOptions(device="cpu"), encoder=ColourEncoder(), fine_model=scorer)
        )
        return opened[-1]

    yield make
    for engine in opened:
        engine.close()


def test_the_frames_are_the_best_of_all_videos_together(open_engine: OpenEngine, archive: Path) -> None:
    engine = open_engine(archive=archive)
    result = engine.search("a red circle", top=5)
    query = ColourEncoder().encode_text("a red circle").vector
    truth = []
    for manifest in engine.archive.manifests():
        rows = engine.archive.timeline(manifest).distinct_rows()
        truth += [float(similarity) for similarity in engine.archive.read(manifest)[rows] @ query]
    found = [frame.clip_similarity for video in result.videos for frame in video.frames]
    np.testing.assert_allclose(sorted(found, reverse=True), sorted(truth, reverse=True)[:5], atol=1e-5)  # type: ignore[type-var]
    best = [video.similarity for video in result.videos]
    assert best == sorted(best, reverse=True)
    assert all(
        [frame.ordinal for frame in video.frames] == sorted(frame.ordinal for frame in video.frames)
        for video in result.videos
    )
    assert (result.searched_videos, result.searched_frames) == (3, len(truth))
    assert not result.degraded
    assert [stage.name for stage in result.stages] == ["index", "coarse", "gens"]
    assert SearchResult.from_json(result.to_json()) == result


def test_some_videos_only(open_engine: OpenEngine, archive: Path, clips: list[Path]) -> None:
    engine = open_engine(archive=archive)

    def searched(**options: object) -> set[str]:
        return {Path(found.video).name for found in engine.search("a?", top=1000, **options).videos}  # type: ignore[arg-type]

    assert searched() == {"a.mp4", "b.mp4", "c.mp4"}
    assert searched(videos=[clips[1]]) == {"b.mp4"}
    assert searched(videos=[engine.archive.identify(clips[0]), str(clips[2])]) == {"a.mp4", "c.mp4"}
    assert searched(under=[clips[2].parent]) == {"c.mp4"}
    assert searched(under=[clips[0].parent]) == {"a.mp4", "b.mp4", "c.mp4"}
    now = datetime.now(timezone.utc)
    assert searched(since=now - timedelta(hours=1)) == {"a.mp4", "b.mp4", "c.mp4"}
    with pytest.raises(VideoNotIndexedError, match=r"of 3 videos .* none was indexed since 20"):
        searched(since=now + timedelta(hours=1))
    with pytest.raises(VideoNotIndexedError):
        searched(videos=["/no/such.mp4"])


def test_gens_reads_the_best_videos_and_puts_them_in_order(
    open_engine: OpenEngine, archive: Path, clips: list[Path]
) -> None:
    plain = open_engine(archive=archive).search("a red circle", top=1000)
    order = [found.video for found in plain.videos]
    # Of the two videos that are read, GenS finds the second one better.
    scorer = Recorded('{"1": 4}', '{"2": 5}')
    engine = open_engine(archive=archive, scorer=scorer)
    result = engine.search("a red circle", top=1000, fine=2)
    assert len(scorer.shown) == 2
    assert [found.video for found in result.videos] == [order[1], order[0], order[2]]
    assert [found.answer is None for found in result.videos] == [False, False, True]
    first = result.videos[0].answer
    assert first is not None
    assert [span.score for span in first.spans] == [5.0]
    assert first.video_id == result.videos[0].video_id
    gens = result.stages[-1]
    assert (gens.name, gens.ran, gens.candidates_in, gens.candidates_out) == ("gens", True, 2, 2)


def test_a_video_that_is_gone_is_answered_from_its_index_and_said_so(
    open_engine: OpenEngine, clips: list[Path], tmp_path: Path
) -> None:
    engine = open_engine(archive=tmp_path / "new", scorer=Recorded('{"1": 5}'))
    lost = Path(shutil.copy(clips[0], tmp_path / "lost.mp4"))
    video_id = engine.index(lost).video_id
    assert engine.search("a?").videos[0].gone is None
    lost.unlink()
    result = engine.search("a?", videos=[video_id], fine=1)
    assert result.degraded
    assert str(lost) in (result.stages[-1].fallback_reason or "")
    assert result.videos[0].gone == f"{lost} does not exist any more"
    with pytest.raises(StageFailedError):
        engine.search("a?", videos=[video_id], fine=1, strict=True)


def test_answers_of_files_that_are_gone_or_changed_say_so(
    open_engine: OpenEngine, clips: list[Path], tmp_path: Path
) -> None:
    engine = open_engine(archive=tmp_path / "new")
    gone, changed, kept = (Path(shutil.copy(clip, tmp_path / clip.name)) for clip in clips)
    for place in (gone, changed, kept):
        engine.index(place)
    gone.unlink()
    changed.write_bytes(changed.read_bytes() + b"more")
    result = engine.search("a?", top=1000)
    assert {found.video: found.gone for found in result.videos} == {
        str(gone): f"{gone} does not exist any more",
        str(changed): f"{changed} was changed since it was indexed",
        str(kept): None,
    }
    assert not result.degraded  # the answer is from the index, as asked


def test_videos_of_another_encoder_are_named(open_engine: OpenEngine, archive: Path, clips: list[Path]) -> None:
    engine = open_engine(archive=archive)
    manifest = engine.archive.require(engine.archive.identify(clips[0]))
    other = {**manifest.config.encoder, "model": "another"}
    engine.archive.commit(
        manifest.video_id,
        NewIndex(
            timeline=engine.archive.timeline(manifest),
            vectors=engine.archive.read(manifest),
            config=manifest.config.model_copy(update={"encoder": other}),
            source=manifest.source,
            video=manifest.video,
        ),
    )
    result = engine.search("a?", top=1000)
    assert [skipped.video for skipped in result.skipped] == [str(clips[0])]
    assert "model: another ->" in result.skipped[0].reason
    assert result.degraded
    assert (result.stages[1].fallback_reason or "").startswith("1 of 3 videos not searched")
    with pytest.raises(StageFailedError, match="1 of 3 videos"):
        engine.search("a?", strict=True)
    with pytest.raises(IndexMismatchError, match="of 1 video none was indexed"):
        engine.search("a?", videos=[manifest.video_id])


def test_a_damaged_video_is_named_and_never_an_answer(
    open_engine: OpenEngine, archive: Path, clips: list[Path]
) -> None:
    (cut, *_) = archive.glob("videos/*/manifest.json")
    cut.write_bytes(cut.read_bytes()[:100])
    result = open_engine(archive=archive).search("a?", top=1000)
    assert [skipped.video_id for skipped in result.skipped] == [cut.parent.name]
    assert cut.parent.name not in {found.video_id for found in result.videos}
    assert result.searched_videos == 2


@pytest.mark.parametrize("what", ["replaced", "removed"])
def test_a_video_that_a_writer_changes_while_the_search_runs(
    open_engine: OpenEngine, archive: Path, clips: list[Path], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Its rows are known, and its times are about to be read."""
    engine = open_engine(archive=archive)
    manifest = engine.archive.require(engine.archive.identify(clips[0]))
    times, vectors = engine.archive.timeline(manifest), engine.archive.read(manifest)
    look = Archive.timeline

    def meanwhile(self: Archive, video: str | Manifest) -> Timeline:
        monkeypatch.setattr(Archive, "timeline", look)
        with open_archive(archive) as other:
            if what == "removed":
                other.remove(manifest.video_id)
            else:
                shorter = replace(
                    times,
                    ordinals=times.ordinals[:1],
                    pts_seconds=times.pts_seconds[:1] + 0.25,
                    frame_numbers=times.frame_numbers[:1],
                    missing=(),
                )
                other.commit(
                    manifest.video_id,
                    NewIndex(
                        timeline=shorter,
                        vectors=vectors[:1],
                        config=manifest.config,
                        source=manifest.source,
                        video=manifest.video,
                    ),
                )
        return look(self, video)

    monkeypatch.setattr(Archive, "timeline", meanwhile)
    result = engine.search("a?", top=1000)
    frames = {found.video_id: found.frames for found in result.videos}
    assert result.searched_frames == sum(manifest.frames for manifest in engine.archive.manifests())
    if what == "removed":
        # As if it had been removed before.
        assert result.skipped == ()
        assert set(frames) == {engine.archive.identify(clip) for clip in clips[1:]}
        assert not result.degraded
    else:
        assert not result.degraded
        assert [frame.seconds for frame in frames[manifest.video_id]] == [float(times.pts_seconds[0]) + 0.25]


def test_the_index_of_a_file_that_was_replaced_does_not_answer(
    open_engine: OpenEngine, archive: Path, clips: list[Path], tmp_path: Path
) -> None:
    engine = open_engine(archive=archive)
    place = tmp_path / "changing.mp4"
    shutil.copy(clips[0], place)
    first = engine.index(place).video_id
    shutil.copy(clips[1], place)
    second = engine.index(place).video_id
    result = engine.search("a?", top=1000, under=[tmp_path])
    assert [found.video_id for found in result.videos] == [second]
    assert [(skipped.video_id, skipped.reason) for skipped in result.skipped] == [
        (first, f"another video lies at {place} now")
    ]


@pytest.mark.parametrize(
    ("options", "text"),
    [({"top": 0}, "top is 0"), ({"fine": -1}, "fine is -1"), ({"threads": 0}, "threads is 0")],
)
def test_values_that_are_not_legal(open_engine: OpenEngine, archive: Path, options: dict[str, int], text: str) -> None:
    with pytest.raises(InputError, match=text):
        open_engine(archive=archive).search("a?", **options)  # type: ignore[arg-type]


def test_an_empty_question_and_an_empty_archive(open_engine: OpenEngine, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty"):
        open_engine(archive=archive).search("  ")
    with pytest.raises(VideoNotIndexedError, match="holds no video"):
        open_engine(archive=tmp_path / "empty").search("a?")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ask": {"frames": 5}}, r"frames is 5, .* and fine is 0; say how many .*--fine 3"),
        ({"fine": 1, "ask": {"segments": 2}}, "take --window segments"),
        ({"fine": 1, "ask": {"strict": True}}, "ask says strict = True, which is an option of the search itself"),
        ({"fine": 1, "ask": {"fine": False}}, "ask says fine = False"),
    ],
)
def test_options_that_would_decide_nothing_are_refused(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with Engine.open(tmp_path / "archive", preset="tiny") as engine, pytest.raises(InputError, match=message):
        engine.search("a red circle", **options)  # type: ignore[arg-type]


def test_a_video_that_is_indexed_while_a_search_begins_is_to_be_asked_for_again(
    clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybrid.engine.search import searching

    real = searching.find_indexed
    with Engine(open_archive(tmp_path / "archive"), EngineOptions(device="cpu"), encoder=ColourEncoder()) as engine:
        engine.index(clips[0])

        def just_indexed(archive: Archive, video: str) -> object:
            engine.index(clips[1])
            return real(archive, video)

        monkeypatch.setattr(searching, "find_indexed", just_indexed)
        with pytest.raises(VideoNotIndexedError, match="did not hold what videos names when the search began"):
            engine.search("a question", videos=[clips[1]])
        assert [found.video for found in engine.search("a question", videos=[clips[1]]).videos] == [str(clips[1])]
