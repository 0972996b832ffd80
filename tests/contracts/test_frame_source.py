"""What every source of frames promises, run over both decoders and folders of images.

Where decord is known to be wrong, the table below says so and why, and the tests assert that it
still is: an entry that has become right must be taken out.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from hybrid.errors import InputError, MissingDependencyError, NoVideoStreamError, VideoError, VideoOpenError
from hybrid.frames.interface import FrameSource
from hybrid.frames.registry import DECODERS, open_source
from hybrid.values import Sampling, SamplingPolicy
from tests.frames.full_decode import Samples, assert_same, full_decode, read_all, samples
from tests.make_videos import image_folder, read_number

GOOD = ("long_gop", "short_gop", "pyramid", "vfr", "gap", "ntsc", "ten_bit", "late_start", "vp9", "mpeg4", "mjpeg")
"""Clips on which both decoders must be right."""

DECORD_WRONG = {
    "open_gop": "a seek to an open group of pictures lands on the wrong key frame",
    "hevc": "the pictures around a CRA key frame are dropped or kept wrongly after a seek",
    "hevc_layers": "the same, and the seek lands on an earlier key frame",
    "refresh": "a gradual refresh is taken for key frames (MPEG-TS)",
    "ts": "seeking in MPEG-TS is off by seconds",
    "mpeg2": "seeking in MPEG-TS is off by seconds",
    "resized": "MPEG-TS, and later pictures are scaled to the first size",
    "no_pts": "the packets carry no time stamps, so its table of times is useless",
    "delayed": "the container's start is not known to it: the timeline begins at the first frame",
}
"""Clips of which decord shows wrong frames, and why."""

DECORD_FAILS = {
    "av1": (NoVideoStreamError, "its FFmpeg of 2018 has no AV1 decoder"),
    "raw": (VideoOpenError, "a raw stream states no duration"),
    "avi": (VideoOpenError, "time stamps are missing and taken for huge numbers"),
    "cut_mp4": (VideoOpenError, "reading past the end of a cut file raises"),
}
"""Clips that decord cannot read, with our error and the reason."""

needs_decord = pytest.mark.skipif(
    importlib.util.find_spec("decord") is None, reason="decord is not installed: pip install 'hybrid[decord]'"
)
DECODER = [pytest.param(name, marks=[needs_decord] if name == "decord" else []) for name in DECODERS.names]
KIND = [*DECODER, pytest.param("folder", id="folder")]


def open_kind(
    kind: str, clips: dict[str, Path], tmp_path: Path, sampling: Sampling, *, batch_bytes: int = 2**20
) -> FrameSource:
    """A ten-second source of each kind."""
    if kind == "folder":
        folder = tmp_path / "frames"
        place = folder if folder.exists() else image_folder(folder, range(10))
        return open_source(place, sampling, batch_bytes=batch_bytes)
    decoder: str = "decord" if kind == "decord" else "pyav"
    return open_source(clips["short_gop"], sampling, decoder=decoder, batch_bytes=batch_bytes)


def wrong_samples(path: Path, found: Samples, *, rate: float) -> list[int]:
    """Samples that do not show the picture that a full decode shows at their time, by its bar code."""
    reference = full_decode(path)
    return [
        k
        for k, rgb in zip(found.ordinals, found.rgb, strict=True)
        if read_number(rgb) != read_number(reference.rgb[reference.shown_at(k / rate)])
    ]


@pytest.mark.parametrize("policy", get_args(SamplingPolicy))
@pytest.mark.parametrize("kind", KIND)
def test_batches_are_well_formed(kind: str, clips: dict[str, Path], tmp_path: Path, policy: SamplingPolicy) -> None:
    one = 160 * 96 * 3
    with open_kind(kind, clips, tmp_path, Sampling(1.0, policy), batch_bytes=3 * one) as source:
        batches = list(source.read())
        assert [len(batch) for batch in batches] == [3, 3, 3, 1]
        for batch in batches:
            assert batch.rgb.dtype == np.uint8
            assert batch.rgb.shape[1:] == (source.info.height, source.info.width, 3) == (96, 160, 3)
            assert (batch.ordinals.dtype, batch.frame_numbers.dtype) == (np.int64, np.int64)
            assert batch.pts_seconds.dtype == np.float64
        found = samples(batches)
        assert found.ordinals == list(range(10))
        assert found.seconds == pytest.approx(list(range(10)), abs=1e-5)
        assert source.report().duration_seconds == pytest.approx(10.0, abs=0.05)
        assert source.report().missing == ()
        assert source.report().frames_decoded >= 10
        assert source.info.path.endswith("frames" if kind == "folder" else "short_gop.mp4")


@pytest.mark.parametrize("kind", KIND)
def test_a_reading_can_be_repeated_and_restricted(kind: str, clips: dict[str, Path], tmp_path: Path) -> None:
    with open_kind(kind, clips, tmp_path, Sampling(2.0)) as source:
        every = read_all(source)
        assert_same(every, read_all(source))
        asked = [0, 3, 4, 13, 19]
        some = read_all(source, asked)
        assert some.ordinals == asked
        assert all((rgb == every.rgb[k]).all() for k, rgb in zip(asked, some.rgb, strict=True))
        assert some.seconds == [every.seconds[k] for k in asked]
        assert read_all(source, []).ordinals == []


@pytest.mark.parametrize("kind", KIND)
def test_samples_after_the_end_are_missing(kind: str, clips: dict[str, Path], tmp_path: Path) -> None:
    with open_kind(kind, clips, tmp_path, Sampling(1.0)) as source:
        assert read_all(source, [9, 10, 500]).ordinals == [9]
        assert [gap.ordinal for gap in source.report().missing] == [10, 500]
        assert all(gap.reason for gap in source.report().missing)


@pytest.mark.parametrize("asked", [[3, 3], [4, 2], [-1, 2]])
@pytest.mark.parametrize("kind", KIND)
def test_bad_ordinals_are_refused(kind: str, clips: dict[str, Path], tmp_path: Path, asked: list[int]) -> None:
    with open_kind(kind, clips, tmp_path, Sampling(1.0)) as source, pytest.raises(InputError, match="ordinal"):
        source.read(ordinals=asked)


@pytest.mark.parametrize("kind", KIND)
def test_a_report_needs_a_finished_reading(kind: str, clips: dict[str, Path], tmp_path: Path) -> None:
    with open_kind(kind, clips, tmp_path, Sampling(1.0), batch_bytes=1) as source:
        with pytest.raises(InputError, match="no reading was finished"):
            source.report()
        next(iter(source.read()))
        with pytest.raises(InputError, match="no reading was finished"):
            source.report()
        read_all(source)
        assert source.report().missing == ()
        source.close()
        source.close()


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("decoder", DECODER)
def test_the_right_frames_come(decoder: str, name: str, clips: dict[str, Path]) -> None:
    with open_source(clips[name], Sampling(1.0), decoder=decoder) as source:
        found = read_all(source)
    assert found.ordinals == list(range(len(found.ordinals)))
    assert wrong_samples(clips[name], found, rate=1.0) == []
    # decord stores times as 32-bit floats of seconds.
    late = [seconds - k for k, seconds in zip(found.ordinals, found.seconds, strict=True)]
    assert max(late) < 1e-5


@needs_decord
@pytest.mark.parametrize("name", DECORD_WRONG)
def test_decord_is_known_to_show_wrong_frames(name: str, clips: dict[str, Path]) -> None:
    with open_source(clips[name], Sampling(1.0), decoder="decord") as source:
        found = read_all(source)
    if name == "no_pts":
        # A full decode tells the order only; these clips have 30 frames a second.
        wrong = [k for k, rgb in zip(found.ordinals, found.rgb, strict=True) if read_number(rgb) != 30 * k]
    else:
        wrong = wrong_samples(clips[name], found, rate=1.0)
    assert wrong, f"decord is right on {name} now ({DECORD_WRONG[name]}): take it out of the table"
    with open_source(clips[name], Sampling(1.0)) as source:
        right = read_all(source)
    if name == "no_pts":
        assert [read_number(rgb) for rgb in right.rgb] == [30 * k for k in right.ordinals]
    else:
        assert wrong_samples(clips[name], right, rate=1.0) == []


@needs_decord
@pytest.mark.parametrize("name", DECORD_FAILS)
def test_decord_is_known_to_fail(name: str, clips: dict[str, Path]) -> None:
    error, reason = DECORD_FAILS[name]
    with pytest.raises(error, match=r"pyav|damaged") as caught:
        read_all(open_source(clips[name], Sampling(1.0), decoder="decord"))
    assert type(caught.value) is error, reason


@pytest.mark.parametrize("name", ["text", "empty", "noise", "absent", "sound", "cover"])
@pytest.mark.parametrize("decoder", DECODER)
def test_what_is_no_video_is_an_error(decoder: str, name: str, clips: dict[str, Path]) -> None:
    with pytest.raises(VideoOpenError, match=name) as caught:
        open_source(clips[name], Sampling(1.0), decoder=decoder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cut_mp4", "cut_mkv", "flipped", "flipped_open", "hole"])
@pytest.mark.parametrize("decoder", DECODER)
def test_damage_ends_in_frames_or_in_our_error(decoder: str, name: str, clips: dict[str, Path]) -> None:
    try:
        with open_source(clips[name], Sampling(1.0), decoder=decoder) as source:
            found = read_all(source)
            missing = [gap.ordinal for gap in source.report().missing]
    except VideoError:
        assert decoder == "decord"
        return
    assert sorted([*found.ordinals, *missing]) == list(range(len(found.ordinals) + len(missing)))
    assert len(found.ordinals) >= 4


@needs_decord
@pytest.mark.parametrize("method", ["get_frame_timestamp", "get_key_indices", "__getitem__"])
def test_decord_fails_in_our_words(clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    import decord

    def fail(*_: object) -> None:
        raise decord.DECORDError("[12:00:00] video_reader.cc:1: a check failed\nStack trace")

    monkeypatch.setattr(decord.VideoReader, method, fail)
    with pytest.raises(
        VideoOpenError, match=r"^decord cannot open .*short_gop\.mp4: a check failed; try --decoder pyav$"
    ):
        open_source(clips["short_gop"], Sampling(1.0), decoder="decord")


@pytest.mark.parametrize("decoder", DECODER)
def test_a_colon_in_a_name(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("12:30:00.mp4").write_bytes(clips["short_gop"].read_bytes())
    with open_source("12:30:00.mp4", Sampling(1.0), decoder=decoder) as source:
        assert len(read_all(source).ordinals) == 10
        assert source.info.path == "12:30:00.mp4"


@needs_decord
def test_rotated_by_both_decoders(clips: dict[str, Path]) -> None:
    one, other = (read_all(open_source(clips["rotated"], Sampling(1.0), decoder=name)) for name in DECODERS.names)
    assert one.rgb[0].shape == other.rgb[0].shape == (160, 96, 3)
    assert np.abs(one.rgb[1].astype(int) - other.rgb[1]).mean() < 3


@pytest.mark.parametrize("decoder", DECODER)
def test_key_frames_only(decoder: str, clips: dict[str, Path]) -> None:
    with open_source(clips["vfr"], Sampling(1.0, "keyframes"), decoder=decoder) as source:
        found = read_all(source)
        assert [read_number(rgb) for rgb in found.rgb] == [0, 48, 96, 144, 192]
        assert [int(seconds) for seconds in found.seconds] == found.ordinals
        assert read_all(source, found.ordinals[1:2]).seconds == found.seconds[1:2]


def test_an_unknown_decoder_is_refused(clips: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="'opencv'; legal are pyav, decord"):
        open_source(clips["short_gop"], Sampling(1.0), decoder="opencv")


def test_without_decord_the_command_is_named(clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "decord", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        open_source(clips["short_gop"], Sampling(1.0), decoder="decord")
