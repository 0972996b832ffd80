"""Decoding the next video of a run while the present one is embedded: it overlaps, and changes nothing else."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybrid.clip.open_clip import ClipEncoder
from hybrid.engine import Engine
from hybrid.engine.frames import decode_ahead as decoding
from hybrid.errors import FrameDecodeError, VideoOpenError
from hybrid.frames.interface import FrameSource
from hybrid.frames.registry import open_source
from hybrid.options.engine import EngineOptions
from hybrid.values import ByteArray, Float32Array
from indexes.format.failures import Attempt, Failure, remember_failure
from indexes.open_archive import open_archive
from tests.demo_clip import DEMO_SCENES, write_demo_clip


class Opened:
    """Opens videos as usual, and keeps which and by which thread."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.threads: dict[str, str] = {}
        self.events: dict[str, threading.Event] = {}

    def event(self, video: Path) -> threading.Event:
        """Is set once the video is open."""
        return self.events.setdefault(video.name, threading.Event())

    def __call__(self, path: Path, *arguments: Any, **options: Any) -> FrameSource:
        source = open_source(path, *arguments, **options)
        self.names.append(path.name)
        self.threads[path.name] = threading.current_thread().name
        self.event(path).set()
        return source


class WaitingEncoder:
    """The real encoder, which has not done a video before something has happened."""

    def __init__(self, encoder: ClipEncoder) -> None:
        self._encoder = encoder
        self.device, self.identity = encoder.device, encoder.identity
        self.wait_for: threading.Event | None = None

    def encode_frames(self, frames: Iterable[ByteArray]) -> Iterator[Float32Array]:
        yield from self._encoder.encode_frames(frames)
        if self.wait_for is not None:
            assert self.wait_for.wait(200), "the next video was not begun while this one was embedded"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    spy = Opened()
    monkeypatch.setattr(decoding, "open_source", spy)
    return spy


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [write_demo_clip(folder / f"{i}.mp4", [replace(DEMO_SCENES[i], seconds=3)]) for i in range(3)]


@pytest.fixture
def encoder(tiny_encoder: ClipEncoder) -> WaitingEncoder:
    return WaitingEncoder(tiny_encoder)


@pytest.fixture
def engine(tmp_path: Path, encoder: WaitingEncoder) -> Iterator[Engine]:
    given: Any = encoder
    with Engine(open_archive(tmp_path / "archive"), EngineOptions(device="cpu"), encoder=given) as made:
        yield made


def threads() -> list[str]:
    """Those that decode. One that opened a video ahead has done its work by now, but may not have ended yet."""
    for thread in threading.enumerate():
        if thread.name == "hybrid-ahead":
            thread.join(200)
    return [thread.name for thread in threading.enumerate() if thread.name in ("hybrid-prefetch", "hybrid-ahead")]


def hashes(engine: Engine) -> dict[str, tuple[str, str]]:
    return {each.video_id: (each.vectors_hash, each.timeline_hash) for each in engine.archive.manifests()}


def test_the_next_video_is_begun_while_this_one_is_embedded(
    engine: Engine, encoder: WaitingEncoder, opened: Opened, clips: list[Path]
) -> None:
    encoder.wait_for = opened.event(clips[1])
    engine.index(clips[0], following=[clips[1]])
    encoder.wait_for = opened.event(clips[2])
    engine.index(clips[1], following=[clips[2]])
    encoder.wait_for = None
    assert engine.index(clips[2]).outcome == "indexed"
    assert opened.names == ["0.mp4", "1.mp4", "2.mp4"]  # each once
    assert opened.threads["1.mp4"] == opened.threads["2.mp4"] == "hybrid-ahead"
    assert threads() == []


def test_several_short_videos_are_decoded_ahead(
    engine: Engine, encoder: WaitingEncoder, opened: Opened, clips: list[Path], tmp_path: Path
) -> None:
    more = [write_demo_clip(tmp_path / f"{i}.mp4", [replace(DEMO_SCENES[i], seconds=2)]) for i in (3, 4)]
    encoder.wait_for = opened.event(more[0])
    engine.index(clips[0], following=[*clips[1:], *more])
    assert opened.names == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]  # one, and three ahead
    left = [*clips[1:], *more]
    while left:
        assert engine.index(left.pop(0), following=left).outcome == "indexed"
    assert opened.names == ["0.mp4", "1.mp4", "2.mp4", "3.mp4", "4.mp4"]
    assert threads() == []


def test_the_indexes_are_those_of_one_video_after_another(engine: Engine, clips: list[Path], tmp_path: Path) -> None:
    for place, video in enumerate(clips):
        engine.index(video, following=clips[place + 1 :])
    with Engine(open_archive(tmp_path / "other"), engine.settings, encoder=engine._models.encoder_for(None)) as other:
        for video in clips:
            other.index(video)
        assert hashes(engine) == hashes(other)


def test_another_video_than_was_said(
    engine: Engine, encoder: WaitingEncoder, opened: Opened, clips: list[Path]
) -> None:
    encoder.wait_for = opened.event(clips[1])
    engine.index(clips[0], following=[clips[1]])
    assert engine.index(clips[2]).outcome == "indexed"
    assert threads() == []
    encoder.wait_for = None
    assert engine.index(clips[1]).outcome == "indexed"


def test_what_was_begun_ends_with_the_engine(
    engine: Engine, encoder: WaitingEncoder, opened: Opened, clips: list[Path]
) -> None:
    encoder.wait_for = opened.event(clips[1])
    engine.index(clips[0], following=[clips[1]])
    engine.close()
    assert threads() == []


def test_a_video_that_is_replaced_in_between(
    engine: Engine, encoder: WaitingEncoder, opened: Opened, clips: list[Path], tmp_path: Path
) -> None:
    video = tmp_path / "video.mp4"
    shutil.copy(clips[1], video)
    encoder.wait_for = opened.event(video)
    engine.index(clips[0], following=[video])
    encoder.wait_for = None
    replacement = tmp_path / "replacement.mp4"
    shutil.copy(clips[2], replacement)
    replacement.replace(video)
    result = engine.index(video)
    assert result.video_id == engine.index(clips[2]).video_id
    assert opened.names == ["0.mp4", "video.mp4", "video.mp4"]
    assert engine.index(clips[1]).outcome == "indexed"
    vectors = [engine.archive.read(engine.index(clip).video_id) for clip in clips[1:]]
    assert not (vectors[0] == vectors[1]).all()


def test_a_changed_rate_is_followed(engine: Engine, encoder: WaitingEncoder, opened: Opened, clips: list[Path]) -> None:
    """What was begun at the usual rate is not taken where the index that is there says another."""
    encoder.wait_for = opened.event(clips[1])
    engine.index(clips[0], following=[clips[1]])
    encoder.wait_for = None
    # Another process indexes it meanwhile, at two samples a second.
    given: Any = encoder
    with Engine(open_archive(engine.archive.uri), EngineOptions(device="cpu", rate=2.0), encoder=given) as other:
        video_id = other.index(clips[1]).video_id
    engine._models.settings = engine.settings.changed(sampling="keyframes")
    result = engine.index(clips[1])
    assert (result.video_id, result.outcome) == (video_id, "indexed")
    assert engine.archive.require(video_id).config.rate == 2.0


@pytest.mark.parametrize("known", ["indexed", "failed"])
def test_what_is_known_is_not_begun_ahead(
    engine: Engine,
    encoder: WaitingEncoder,
    opened: Opened,
    clips: list[Path],
    known: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An index is likely up to date; what failed before may end the process, and is tried alone."""
    if known == "indexed":
        engine.index(clips[1])
    else:
        record = Failure(
            path=str(clips[1]),
            video_id=engine.archive.identify(clips[1]),
            reason="it ended the process",
            kind="Ended",
            lasting=True,
            attempt=Attempt(),
            attempts=1,
            failed_at="2026-01-01T00:00:00+00:00",
        )
        remember_failure(engine.archive.folder, record)
    looked = threading.Event()
    real = decoding.VideoPrefetcher._open

    def look(ahead: decoding.VideoPrefetcher, begun: Any) -> None:
        real(ahead, begun)
        looked.set()

    monkeypatch.setattr(decoding.VideoPrefetcher, "_open", look)
    encoder.wait_for = looked
    engine.index(clips[0], following=[clips[1]])
    assert opened.names.count("1.mp4") == (known == "indexed")


@pytest.mark.parametrize("content", [None, b"This is no video."])
def test_a_video_that_cannot_be_opened_fails_when_it_is_its_turn(
    engine: Engine, clips: list[Path], tmp_path: Path, content: bytes | None
) -> None:
    bad = tmp_path / "bad.mp4"
    if content is not None:
        bad.write_bytes(content)
    assert engine.index(clips[0], following=[bad]).outcome == "indexed"
    with pytest.raises(VideoOpenError, match=r"bad\.mp4"):
        engine.index(bad, following=[clips[1]])
    assert engine.index(clips[1]).outcome == "indexed"


def test_what_decoding_raises_is_raised_when_it_is_its_turn(
    engine: Engine, encoder: WaitingEncoder, opened: Opened, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make: Callable[..., FrameSource] = opened

    def broken(path: Path, *arguments: Any, **options: Any) -> FrameSource:
        source = make(path, *arguments, **options)
        if path.name == "1.mp4":

            def read() -> Iterator[Any]:
                raise FrameDecodeError("nothing of it could be decoded")
                yield

            monkeypatch.setattr(source, "read", read)
        return source

    monkeypatch.setattr(decoding, "open_source", broken)
    encoder.wait_for = opened.event(clips[1])
    engine.index(clips[0], following=[clips[1]])
    encoder.wait_for = None
    with pytest.raises(FrameDecodeError, match="nothing of it"):
        engine.index(clips[1], following=[clips[2]])
    assert engine.index(clips[2]).outcome == "indexed"
    assert threads() == []
