"""A question to an archive with an approximate index: what ran is recorded, and ``strict`` and ``exact`` are obeyed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from hybrid.answers import SearchResult
from hybrid.clip.interface import TextVector
from hybrid.engine import Engine
from hybrid.engine.index.ann import SAMPLE_QUESTIONS
from hybrid.errors import StageFailedError
from hybrid.options.engine import EngineOptions
from hybrid.values import ByteArray, Float32Array, Sampling, Timeline
from indexes.ann.files import ApproximateFiles
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.manifest import IndexConfig, IndexedVideo, Source
from indexes.maintenance.stats import archive_stats
from indexes.open_archive import open_archive

DIMENSION = 12
VIDEOS, FRAMES = 42, 120
"""Just more than the approximate index would compare anyway."""


class NoEncoder:
    """An encoder that knows text only: a text is a direction."""

    name, device = "directions", "cpu"
    identity: Mapping[str, str] = {"model": "directions", "weights": "none", "precision": "float32"}

    def encode_frames(self, frames: Iterable[ByteArray]) -> Iterator[Float32Array]:
        raise NotImplementedError

    def encode_text(self, text: str) -> TextVector:
        drawn = np.random.default_rng(list(text.encode())).standard_normal(DIMENSION).astype(np.float32)
        return TextVector(vector=drawn / np.linalg.norm(drawn), tokens=3, context_length=77)


def commit(archive: Archive, number: int) -> None:
    drawn = np.random.default_rng(number).standard_normal((FRAMES, DIMENSION)).astype(np.float32)
    times = np.arange(FRAMES)
    archive.commit(
        f"{number:032x}",
        NewIndex(
            timeline=Timeline(times, times.astype(np.float64), times, Sampling(), float(FRAMES)),
            vectors=drawn / np.linalg.norm(drawn, axis=1, keepdims=True),
            config=IndexConfig(encoder=dict(NoEncoder.identity), rate=1.0, policy="exact", decoder="pyav"),
            source=Source(path=f"/no/such/{number}.mp4", size_bytes=1),
            video=IndexedVideo(kind="file", duration_seconds=float(FRAMES), width=32, height=18, codec="h264"),
        ),
    )


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled") / "archive"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr("indexes.maintenance.build_ann.SEGMENT_FRAMES", 10 * FRAMES)
        with Engine(open_archive(folder), EngineOptions(device="cpu"), encoder=NoEncoder()) as engine:
            for number in range(VIDEOS):
                commit(engine.archive, number)
            (done,) = engine.refresh_approximate(from_frames=1)
            assert (done.covered_frames, done.segments_added) == (40 * FRAMES, 4)
    return folder


@pytest.fixture
def engine(filled: Path, tmp_path: Path) -> Iterator[Engine]:
    folder = shutil.copytree(filled, tmp_path / "copy")
    with Engine(open_archive(folder), EngineOptions(device="cpu"), encoder=NoEncoder()) as opened:
        yield opened


def frames_of(result: SearchResult) -> set[tuple[str, int]]:
    return {(video.video_id, frame.ordinal) for video in result.videos for frame in video.frames}


def test_the_record_says_that_it_was_approximate(engine: Engine) -> None:
    result = engine.search("a red car", top=20)
    assert [stage.name for stage in result.stages] == ["index", "approximate", "coarse", "gens"]
    stage, coarse = result.stages[1:3]
    assert stage.ran
    assert stage.device == "cpu"
    assert (stage.candidates_in or 0) > 4096  # hardly two frames are alike, so nearly each is a unit
    assert 0 < (stage.candidates_out or 0) <= 4096
    assert stage.details["exact_frames"] == 2 * FRAMES
    assert coarse.details["exact"] is False
    assert not result.degraded
    assert result.searched_videos == VIDEOS
    assert result.searched_frames == VIDEOS * FRAMES


def test_exact_compares_every_frame(engine: Engine) -> None:
    result = engine.search("a red car", top=20, exact=True)
    assert [stage.name for stage in result.stages] == ["index", "coarse", "gens"]
    assert result.stages[1].details["exact"] is True
    near = engine.search("a red car", top=20)
    assert len(frames_of(result) & frames_of(near)) >= 19


def test_some_videos_are_searched_exactly(engine: Engine) -> None:
    result = engine.search("a red car", top=5, videos=[f"{7:032x}"])
    assert [video.video_id for video in result.videos] == [f"{7:032x}"]
    assert result.stages[1].name == "approximate"
    assert not result.stages[1].ran
    assert result.stages[1].notes == ("so few frames are searched exactly",)
    assert not result.degraded


def test_damage_is_a_fallback_and_strict_makes_it_an_error(engine: Engine) -> None:
    folder = ApproximateFiles(engine.archive.folder, DIMENSION).folder
    next(folder.glob("codebook-*")).write_bytes(b"not a codebook")
    result = engine.search("a red car", top=20)
    assert "the approximate index is damaged" in (result.stages[1].fallback_reason or "")
    assert result.degraded
    assert frames_of(result) == frames_of(engine.search("a red car", top=20, exact=True))
    with pytest.raises(StageFailedError, match="the approximate index is damaged"):
        engine.search("a red car", top=20, strict=True)
    engine.search("a red car", top=20, strict=True, exact=True)


def test_the_recall_is_measured_with_questions(engine: Engine) -> None:
    (recall,) = archive_stats(engine.archive).approximate
    assert recall.queries == len(SAMPLE_QUESTIONS)
    assert recall.recall is not None
    assert recall.recall > 0.9
