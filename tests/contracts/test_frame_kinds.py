"""Every kind of file gives the frames of a full decode, bit for bit, whole and in part."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from hybrid.errors import FrameDecodeError
from hybrid.frames.decoders.pyav import PyAVSource
from hybrid.values import Sampling
from tests.frames.full_decode import Samples, assert_same, read_all
from tests.make_kinds import KINDS, Kind, kind_files
from tests.make_videos import read_number

RATE = 4.0


@pytest.fixture(scope="session")
def files(session_folder: Path) -> dict[str, Path]:
    return kind_files(session_folder / "kinds")


class Reference:
    """All frames in the order in which a decoder that was given everything gave them."""

    def __init__(self, path: Path) -> None:
        self.rgb: list[npt.NDArray[np.uint8]] = []
        self.key: list[bool] = []
        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            assert stream is not None
            stream.codec_context.thread_count = 1
            flagged = set()
            for packet in container.demux(stream):
                if packet.is_keyframe:
                    flagged.add(packet.pts)
                for frame in packet.decode():
                    assert isinstance(frame, av.VideoFrame)
                    self.rgb.append(frame.to_ndarray(format="rgb24"))
                    self.key.append(frame.key_frame or frame.pts in flagged)


def check_pictures(found: Samples, reference: Reference) -> None:
    for k, number, rgb in zip(found.ordinals, found.numbers, found.rgb, strict=True):
        assert (rgb == reference.rgb[number]).all(), f"sample {k} is not frame {number} of a full decode"


def test_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 60
    assert len({kind.codec for kind in KINDS}) >= 8
    assert len({Path(kind.file).suffix for kind in KINDS}) >= 8
    assert len({(kind.codec, Path(kind.file).suffix, kind.why, kind.pix_fmt) for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_samples_are_those_of_a_full_decode(kind: Kind, files: dict[str, Path]) -> None:
    path = files[kind.name]
    reference = Reference(path)
    source = PyAVSource(path, Sampling(RATE), threads=1)
    found = read_all(source)
    report = source.report()
    check_pictures(found, reference)
    # What the picture itself says, where the codec is good enough to read it.
    shown = [due(kind, k) for k in found.ordinals]
    assert found.numbers == shown
    assert not report.cut, report.note
    late = [gap for gap in report.missing if "no frame is shown yet" not in gap.reason]
    assert late == []
    every_third = found.ordinals[1::3]
    some = read_all(source, every_third)
    picked = [found.ordinals.index(k) for k in every_third]
    columns = (found.ordinals, found.seconds, found.numbers, found.rgb)
    assert_same(some, Samples(*([column[i] for i in picked] for column in columns)))  # type: ignore[arg-type]


def due(kind: Kind, ordinal: int) -> int:
    """The frame that is shown at the time of a sample."""
    times = kind.times or tuple(range(kind.frames))
    first = 0 if kind.sound_from_zero else times[0]
    unit = 0.001 if kind.times else 1 / float(kind.fps)
    begun = [number for number, time in enumerate(times) if (time - first + kind.late) * unit <= ordinal / RATE + 1e-6]
    return max(begun, default=0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_key_frames_are_those_of_a_full_decode(kind: Kind, files: dict[str, Path]) -> None:
    path = files[kind.name]
    reference = Reference(path)
    source = PyAVSource(path, Sampling(RATE, "keyframes"), threads=1)
    if not any(reference.key):
        with pytest.raises(FrameDecodeError, match="no frame is marked as a key frame; take --sampling exact"):
            read_all(source)
        return
    found = read_all(source)
    check_pictures(found, reference)
    assert all(reference.key[number] for number in found.numbers)
    assert found.numbers[:1] == [0]


def test_numbers_are_read_from_the_pictures(files: dict[str, Path]) -> None:
    for name in ("avc_mp4", "hevc_cra_mkv", "vp9_webm", "mpeg2_vob", "wmv2_asf", "qtrle_mov"):
        found = read_all(PyAVSource(files[name], Sampling(RATE), threads=1))
        assert [read_number(rgb) for rgb in found.rgb] == found.numbers, name
