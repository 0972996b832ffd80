"""Packets read again, in any order, are the packets that were scanned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import av.error
import numpy as np
import pytest

from hybrid.errors import FrameDecodeError, VideoOpenError
from hybrid.frames.container.open import MAX_DEMUX_ERRORS, VideoPacket, packets_of
from hybrid.frames.packets.scan import PacketReader, scan
from tests.make_videos import WHOLE


def all_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


@pytest.mark.parametrize("name", [*WHOLE, "cut_mp4", "cut_mkv", "hole"])
def test_stretches_in_any_order(clips: dict[str, Path], name: str) -> None:
    movie = scan(clips[name])
    packets = all_packets(clips[name])
    starts = np.flatnonzero(movie.packets.key)
    random = np.random.default_rng(0)
    with closing(PacketReader(movie)) as reader:
        for start in random.permutation(starts)[:12].tolist():
            last = min(start + 5, len(packets) - 1)
            found = [(index, bytes(packet)) for index, packet in reader.packets(start, last)]
            assert found == [(index, packets[index]) for index in range(start, last + 1)]


@pytest.mark.parametrize("name", ["long_gop", "pyramid", "ts", "avi"])
def test_a_seek_that_cannot_be_trusted_is_not(
    clips: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = scan(clips[name])
    packets = all_packets(clips[name])
    monkeypatch.setattr(PacketReader, "_seek", lambda self, target, start: None)
    with closing(PacketReader(movie)) as reader:
        for start in (200, 0, 150):
            found = [(index, bytes(packet)) for index, packet in reader.packets(start, start + 2)]
            assert found == [(index, packets[index]) for index in range(start, start + 3)]


def test_a_file_that_changed_is_noticed(clips: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(clips["long_gop"].read_bytes())
    movie = scan(path)
    path.write_bytes(clips["short_gop"].read_bytes())
    with closing(PacketReader(movie)) as reader, pytest.raises(FrameDecodeError, match="changed while it was read"):
        list(reader.packets(0, 299))


def test_a_file_that_lost_its_stream_is_noticed(clips: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(clips["long_gop"].read_bytes())
    movie = scan(path)
    for other in (clips["sound"], clips["cover"]):
        path.write_bytes(other.read_bytes())
        with pytest.raises(VideoOpenError, match="changed while it was read"):
            PacketReader(replace(movie, stream=1 if other == clips["sound"] else 0))


def test_one_seek_that_fails_is_not_the_end_of_seeking(clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    movie = scan(clips["short_gop"])
    seek = PacketReader._seek
    tried: list[int] = []

    def unsure(self: PacketReader, target: int, start: int) -> VideoPacket | None:
        tried.append(start)
        return seek(self, target, start) if start > 100 else None

    monkeypatch.setattr(PacketReader, "_seek", unsure)
    with closing(PacketReader(movie)) as reader:
        for start in (90, 240, 60, 270):
            assert [index for index, _ in reader.packets(start, start + 2)] == [start, start + 1, start + 2]
    # What fails is tried at two places; what succeeds, at one.
    assert tried == [90, 90, 240, 60, 60, 270]


def test_a_container_that_cannot_seek_is_not_asked_for_ever(
    clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = scan(clips["short_gop"])
    tried: list[int] = []
    monkeypatch.setattr(PacketReader, "_seek", lambda self, target, start: tried.append(start))
    with closing(PacketReader(movie)) as reader:
        for start in (90, 240, 60, 270, 30, 120, 210):
            list(reader.packets(start, start))
    assert tried == [90, 90, 240, 240, 60, 60]


class FaultyContainer:
    """Gives packets and errors in turn, each error ending a round of demuxing as PyAV's do."""

    def __init__(self, script: list[object], *, for_ever: bool = False) -> None:
        self.script = script
        self.format = SimpleNamespace(name="mpegts")
        self.for_ever = for_ever

    def demux(self, stream: object) -> Iterator[object]:
        while self.script:
            step = self.script[0] if self.for_ever else self.script.pop(0)
            if isinstance(step, Exception):
                raise step
            yield step


def test_read_errors_are_passed_over_and_noted() -> None:
    one, two = av.Packet(b"a"), av.Packet(b"b")
    broken = av.error.InvalidDataError(1094995529, "Invalid data found")
    errors: list[str] = []
    container = FaultyContainer([one, broken, IndexError("a new stream"), two])
    assert list(packets_of(container, None, errors)) == [one, two]  # type: ignore[arg-type]
    assert errors == ["Invalid data found"]


def test_errors_without_end_end() -> None:
    container = FaultyContainer([av.error.InvalidDataError(1094995529, "Invalid data found")], for_ever=True)
    errors: list[str] = []
    assert list(packets_of(container, None, errors)) == []  # type: ignore[arg-type]
    assert len(errors) == MAX_DEMUX_ERRORS
