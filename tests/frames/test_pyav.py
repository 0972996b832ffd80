"""Exact samples without decoding everything: the same bits and times as a full decode."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid.errors import FrameDecodeError, InputError, NoVideoStreamError, VideoError, VideoOpenError
from hybrid.frames.decoders import pyav
from hybrid.frames.decoders.pyav import PyAVSource
from hybrid.values import Sampling
from tests.frames.full_decode import FullDecode, assert_same, full_decode, read_all
from tests.make_videos import DAMAGED, WHOLE, read_number

COUNTED = ("no_pts", "raw")
"""Clips whose packets have no times of their own: a full decode tells the order, not the times."""
TIMED = tuple(name for name in WHOLE if name not in COUNTED)
REAL = (
    "av1.mkv",
    "corrupted.mp4",
    "flipping_a_pancake.mkv",
    "h264_10bits.mp4",
    "h265.mp4",
    "nasa_13013.mp4",
    "rotated_180.mov",
    "vfr_drop3.mp4",
)

decoded = lru_cache(maxsize=64)(full_decode)


def assert_exact(path: Path, reference: FullDecode, *, rate: float, threads: int) -> PyAVSource:
    """Every sample that is not missing is the frame shown at its time, bit for bit."""
    source = PyAVSource(path, Sampling(rate), threads=threads)
    found = read_all(source)
    missing = {gap.ordinal for gap in source.report().missing}
    assert sorted([*found.ordinals, *missing]) == list(range(len(found.ordinals) + len(missing)))
    for k, seconds, rgb in zip(found.ordinals, found.seconds, found.rgb, strict=True):
        right = reference.shown_at(k / rate)
        assert seconds == pytest.approx(reference.seconds[right], abs=2e-6), f"sample {k}"
        assert rgb.shape == reference.rgb[right].shape, f"sample {k}"
        assert (rgb == reference.rgb[right]).all(), f"sample {k} differs from a full decode"
    return source


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", TIMED)
def test_exact_samples_equal_a_full_decode(clips: dict[str, Path], name: str, threads: int) -> None:
    reference = decoded(clips[name])
    for rate in (1.0, 2.7):
        source = assert_exact(clips[name], reference, rate=rate, threads=threads)
        report = source.report()
        assert report.packets_damaged == 0
        assert report.note is None
        late = [gap for gap in report.missing if "no frame is shown yet" not in gap.reason]
        assert late == []


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["cut_mp4", "cut_mkv", "hole"])
def test_cut_files_and_lost_packets(clips: dict[str, Path], name: str, threads: int) -> None:
    reference = decoded(clips[name])
    source = assert_exact(clips[name], reference, rate=3.0, threads=threads)
    report = source.report()
    if name.startswith("cut"):
        assert "cut: the container states 10.00 s" in str(report.note)
        assert report.duration_seconds < 5
        assert report.missing == ()
    else:
        assert "decoded again in full" in str(report.note)
        assert report.packets_damaged == reference.refused > 0
        assert [gap.ordinal for gap in report.missing] == [13, 14, 15]
        assert "refused" in report.missing[0].reason


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["flipped", "flipped_open"])
def test_wrong_bits_give_what_a_full_decode_gives_or_better(clips: dict[str, Path], name: str, threads: int) -> None:
    damaged, whole = decoded(clips[name]), decoded(clips[DAMAGED[name]])
    source = PyAVSource(clips[name], Sampling(3.0), threads=threads)
    found = read_all(source)
    # Damage in a picture that was skipped does not reach the pictures after it, so that a sample
    # may be better than in a full decode. What is damaged may differ in how it was patched up.
    as_good = [
        k
        for k, rgb in zip(found.ordinals, found.rgb, strict=True)
        if any((rgb == one.rgb[one.shown_at(k / 3)]).all() for one in (damaged, whole))
    ]
    assert len(as_good) >= 0.8 * len(found.ordinals)
    assert len(found.ordinals) >= 28
    assert "decoded again in full" in str(source.report().note)


@pytest.mark.parametrize("name", REAL)
def test_real_files_equal_a_full_decode(shared_data: Path, name: str) -> None:
    path = shared_data / "videos" / name
    for rate, threads in ((1.0, 2), (5.0, 1)):
        source = assert_exact(path, decoded(path), rate=rate, threads=threads)
        lost = [gap.ordinal for gap in source.report().missing]
        # One packet of this file, at 3 s, is refused by the decoder.
        assert lost == ([int(3 * rate)] if name == "corrupted.mp4" else [])


@pytest.mark.parametrize("name", [n for n in WHOLE if n not in ("rotated", "resized")])
def test_the_bar_code_is_the_number_of_the_frame(clips: dict[str, Path], name: str) -> None:
    source = PyAVSource(clips[name], Sampling(2.0), threads=2)
    found = read_all(source)
    assert [read_number(rgb) for rgb in found.rgb] == found.numbers
    assert len(set(found.numbers)) > 3


@pytest.mark.parametrize(
    ("name", "fps", "shift"),
    [("long_gop", 30, 0), ("ntsc", 30000 / 1001, 0), ("ts", 30, 0), ("no_pts", 30, 0), ("raw", 30, 0), ("hevc", 30, 0)],
)
def test_at_constant_rate_the_number_follows_from_the_time(
    clips: dict[str, Path], name: str, fps: float, shift: int
) -> None:
    found = read_all(PyAVSource(clips[name], Sampling(1.0)))
    for k, seconds, number in zip(found.ordinals, found.seconds, found.numbers, strict=True):
        assert number == int(k * fps + 1e-4) + shift
        assert seconds == pytest.approx(number / fps, abs=1e-5)


@pytest.mark.parametrize("name", [*WHOLE, *DAMAGED])
def test_some_samples_are_the_same_as_in_a_reading_of_all(clips: dict[str, Path], name: str) -> None:
    source = PyAVSource(clips[name], Sampling(3.0), threads=2)
    every = read_all(source)
    asked = every.ordinals[1::7]
    some = read_all(source, asked)
    picked = [every.ordinals.index(k) for k in asked]
    assert some.ordinals == asked
    assert some.seconds == [every.seconds[i] for i in picked]
    assert some.numbers == [every.numbers[i] for i in picked]
    assert all((rgb == every.rgb[i]).all() for i, rgb in zip(picked, some.rgb, strict=True))


@pytest.mark.parametrize("name", TIMED)
def test_key_frames_are_real_ones_with_their_true_times(clips: dict[str, Path], name: str) -> None:
    reference = decoded(clips[name])
    source = PyAVSource(clips[name], Sampling(1.0, "keyframes"), threads=2)
    found = read_all(source)
    assert found.ordinals
    for k, seconds, rgb in zip(found.ordinals, found.seconds, found.rgb, strict=True):
        right = reference.shown_at(seconds)
        assert k == int(seconds + 1e-6)
        assert seconds == pytest.approx(reference.seconds[right], abs=2e-6)
        assert reference.key[right]
        assert (rgb == reference.rgb[right]).all()
    # The second field of an interlaced picture may be in the next packet.
    fields = 2 if name == "interlaced" else 1
    assert source.report().packets_decoded == fields * len(found.ordinals)


@pytest.mark.parametrize("policy", ["exact", "keyframes"])
@pytest.mark.parametrize("name", [n for n in TIMED if n not in ("delayed", "refresh")])
def test_decoding_in_full_gives_the_same_samples(clips: dict[str, Path], name: str, policy: str) -> None:
    source = PyAVSource(clips[name], Sampling(2.0, policy))  # type: ignore[arg-type]
    planned = read_all(source)
    source._movie = replace(source._movie, unsafe="the test says so")
    in_full = read_all(source)
    assert "decoded in full: the test says so" in str(source.report().note)
    assert_same(planned, in_full)


def test_the_first_frame_of_a_delayed_video_in_a_full_decode(clips: dict[str, Path]) -> None:
    source = PyAVSource(clips["delayed"], Sampling(1.0))
    planned = read_all(source)
    missing = [gap.ordinal for gap in source.report().missing]
    source._movie = replace(source._movie, unsafe="the test says so")
    assert_same(planned, read_all(source))
    assert [gap.ordinal for gap in source.report().missing] == missing == [0, 1]
    assert planned.ordinals[0] == 2
    assert planned.seconds[:2] == pytest.approx([2.5, 3.0], abs=1e-3)


def test_samples_that_do_not_exist_in_a_full_decode(clips: dict[str, Path]) -> None:
    source = PyAVSource(clips["raw"], Sampling(1.0))
    assert read_all(source, [1, 4, 5, 400]).numbers == [30, 120]
    assert [(gap.ordinal, gap.reason) for gap in source.report().missing] == [
        (5, "the video ends at 5.000 s"),
        (400, "the video ends at 5.000 s"),
    ]
    keys = PyAVSource(clips["raw"], Sampling(1.0, "keyframes"))
    assert read_all(keys, [0, 1, 2]).numbers == [0, 60]
    assert [gap.reason for gap in keys.report().missing] == ["no key frame in its interval"]


def test_less_is_decoded_than_everything(clips: dict[str, Path]) -> None:
    counts = {}
    for name in ("long_gop", "short_gop", "pyramid", "open_gop", "hevc", "vp9", "mpeg4", "interlaced"):
        source = PyAVSource(clips[name], Sampling(1.0))
        read_all(source)
        counts[name] = source.report()
    for name, report in counts.items():
        assert report.packets_decoded < report.packets_seen, name
        assert report.frames_decoded <= report.packets_decoded, name
    assert counts["short_gop"].frames_decoded == 10
    assert counts["long_gop"].frames_decoded < 150
    # Interlaced pictures may have their fields in two packets: none is skipped.
    assert counts["interlaced"].frames_decoded >= counts["interlaced"].packets_decoded - 8


def test_pictures_of_lower_layers_are_not_skipped(clips: dict[str, Path]) -> None:
    source = PyAVSource(clips["hevc_layers"], Sampling(1.0))
    assert not source._movie.keys.skippable
    assert PyAVSource(clips["hevc"], Sampling(1.0))._movie.keys.skippable


def test_a_frame_is_held_over_a_gap(clips: dict[str, Path]) -> None:
    found = read_all(PyAVSource(clips["gap"], Sampling(1.0)))
    held = [k for k, seconds in zip(found.ordinals, found.seconds, strict=True) if seconds < k - 1]
    assert len(held) > 15
    first = found.ordinals.index(held[0])
    assert {found.numbers[first + i] for i in range(len(held))} == {found.numbers[first]}


def test_pictures_of_another_size_come_in_another_batch(clips: dict[str, Path]) -> None:
    source = PyAVSource(clips["resized"], Sampling(1.0), threads=2)
    assert [(len(b), b.rgb.shape[1:3]) for b in source.read()] == [(4, (96, 160)), (4, (128, 192))]


def test_rotation_is_applied(clips: dict[str, Path]) -> None:
    source = PyAVSource(clips["rotated"], Sampling(1.0))
    assert (source.info.width, source.info.height) == (96, 160)
    batch = next(iter(source.read()))
    assert batch.rgb.shape[1:] == (160, 96, 3)
    assert read_number(np.rot90(batch.rgb[1], -1)) == 30


def yuv_to_rgb(path: Path, *, red: float, blue: float, full_range: bool) -> npt.NDArray[np.float64]:
    """The first frame's RGB by the formula of ITU-R BT.601 / BT.709 from the decoded planes."""
    with av.open(str(path)) as container:
        planes = next(container.decode(video=0)).to_ndarray(format="yuv420p").astype(float)
    height, width = 96, 160
    luma = planes[:height]
    cb, cr = (
        plane.reshape(height // 2, width // 2).repeat(2, 0).repeat(2, 1) - 128
        for plane in np.split(planes[height:].reshape(-1), 2)
    )
    if not full_range:
        luma, cb, cr = (luma - 16) * 255 / 219, cb * 255 / 224, cr * 255 / 224
    r, b = luma + 2 * (1 - red) * cr, luma + 2 * (1 - blue) * cb
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.stack([r, g, b], axis=2), 0, 255)


def test_the_stated_colour_matrix_and_range_are_followed(clips: dict[str, Path]) -> None:
    def distance(name: str, *, red: float, blue: float, full_range: bool) -> float:
        shown = read_all(PyAVSource(clips[name], Sampling(1.0))).rgb[0]
        return float(np.abs(shown - yuv_to_rgb(clips[name], red=red, blue=blue, full_range=full_range)).mean())

    def nearest(name: str) -> tuple[str, bool]:
        matrices = {"bt709": (0.2126, 0.0722), "bt601": (0.299, 0.114)}
        found = {
            (matrix, full): distance(name, red=red, blue=blue, full_range=full)
            for matrix, (red, blue) in matrices.items()
            for full in (False, True)
        }
        best, second = sorted(found.values())[:2]
        assert best < 1
        assert best < 0.6 * second
        return min(found, key=lambda key: found[key])

    assert nearest("bt709") == ("bt709", True)
    # Where the stream states nothing, it is taken for BT.601, limited range.
    assert nearest("long_gop") == ("bt601", False)


def test_batches_are_bounded(clips: dict[str, Path]) -> None:
    one = 160 * 96 * 3
    source = PyAVSource(clips["long_gop"], Sampling(3.0), batch_bytes=4 * one)
    assert [len(batch) for batch in source.read()] == [4] * 7 + [2]
    tiny = PyAVSource(clips["long_gop"], Sampling(1.0), batch_bytes=1)
    assert [len(batch) for batch in tiny.read()] == [1] * 10


def test_an_early_stop_leaves_no_thread(clips: dict[str, Path]) -> None:
    before = set(threading.enumerate())
    source = PyAVSource(clips["short_gop"], Sampling(10.0), threads=4, batch_bytes=1)
    reading = source.read()
    next(reading)
    assert set(threading.enumerate()) - before
    reading.close()  # type: ignore[attr-defined]
    # One that another test left behind may have ended meanwhile.
    assert set(threading.enumerate()) <= before
    with pytest.raises(RuntimeError, match="consumer"):
        _fail_at_first_batch(source)
    assert set(threading.enumerate()) <= before
    assert len(read_all(source).ordinals) == 100


def _fail_at_first_batch(source: PyAVSource) -> None:
    for _ in source.read():
        raise RuntimeError("the consumer fails")


def test_few_threads_for_large_pictures() -> None:
    assert pyav._affordable_threads(16, 640, 360) == 16
    assert pyav._affordable_threads(16, 1920, 1080) == 3
    assert pyav._affordable_threads(16, 7680, 4320) == 2
    assert pyav._affordable_threads(1, 7680, 4320) == 1


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("text", VideoOpenError, "not a video"),
        ("empty", VideoOpenError, "not a video"),
        ("noise", VideoOpenError, "not a video"),
        ("absent", VideoOpenError, "does not exist"),
        ("no_images", VideoOpenError, "not a regular file"),
        ("sound", NoVideoStreamError, "audio"),
        ("cover", NoVideoStreamError, "cover picture"),
    ],
)
def test_what_is_no_video_is_said(clips: dict[str, Path], name: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        PyAVSource(clips[name], Sampling(1.0))
    assert type(caught.value) is error
    assert str(clips[name]) in str(caught.value)


def test_a_colon_in_a_name_is_no_protocol(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("2024-01-01T12:30:00.mp4", "http:film.mp4", "-film.mp4"):
        Path(name).write_bytes(clips["short_gop"].read_bytes())
        source = PyAVSource(name, Sampling(1.0))
        assert len(read_all(source).ordinals) == 10
        assert source.info.path == name
    Path("file:text.mp4").write_text("This is not a video.")
    with pytest.raises(VideoOpenError, match=r"^file:text\.mp4 is not a video that FFmpeg can open: [^/]+$"):
        PyAVSource("file:text.mp4", Sampling(1.0))


@pytest.mark.parametrize("policy", ["exact", "keyframes"])
def test_a_full_decode_for_some_samples_ends_with_the_last_of_them(clips: dict[str, Path], policy: str) -> None:
    source = PyAVSource(clips["raw"], Sampling(1.0, policy))  # type: ignore[arg-type]
    read_all(source)
    every = source.report().packets_decoded
    assert len(read_all(source, [0, 2]).ordinals) == 2
    assert source.report().packets_decoded < 0.8 * every
    assert read_all(source, []).ordinals == []
    assert source.report().packets_decoded < 0.3 * every


def test_bad_arguments_are_said(clips: dict[str, Path]) -> None:
    path = clips["short_gop"]
    with pytest.raises(InputError, match="threads is 0"):
        PyAVSource(path, Sampling(1.0), threads=0)
    with pytest.raises(InputError, match="batch_bytes is 0"):
        PyAVSource(path, Sampling(1.0), batch_bytes=0)
    source = PyAVSource(path, Sampling(1.0))
    with pytest.raises(InputError, match="no reading was finished"):
        source.report()


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    name=st.sampled_from(["fast", "open_gop", "hevc", "vp9", "ts", "mpeg4", "interlaced", "no_pts"]),
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["flip", "zero", "remove", "cut"]),
    threads=st.integers(1, 2),
)
def test_any_damage_ends_in_samples_or_in_our_error(
    clips: dict[str, Path], tmp_path: Path, name: str, seed: int, kind: str, threads: int
) -> None:
    random = np.random.default_rng(seed)
    data = bytearray(clips[name].read_bytes())
    begin, size = int(random.integers(0, len(data))), int(random.integers(1, 5000))
    if kind == "flip":
        for place in random.integers(0, len(data), 8):
            data[place] ^= 1 << int(random.integers(0, 8))
    elif kind == "zero":
        data[begin : begin + size] = bytes(len(data[begin : begin + size]))
    else:
        del data[begin : begin + size if kind == "remove" else len(data)]
    path = tmp_path / f"damaged{clips[name].suffix}"
    path.write_bytes(bytes(data))
    try:
        source = PyAVSource(path, Sampling(2.0), threads=threads)
        found = read_all(source)
    except VideoError:
        return
    every = sorted([*found.ordinals, *(gap.ordinal for gap in source.report().missing)])
    assert every == list(range(len(every)))
    assert found.seconds == sorted(found.seconds)
    # Each sample's frame has begun; only the very first may come a little late.
    late = [k for k, seconds in zip(found.ordinals, found.seconds, strict=True) if seconds > k / 2 + 2e-6]
    assert late in ([], found.ordinals[:1])


def test_a_recording_that_begins_in_the_middle(clips: dict[str, Path], tmp_path: Path) -> None:
    data = clips["ts"].read_bytes()
    path = tmp_path / "middle.ts"
    path.write_bytes(data[int(len(data) * 0.13) :])
    source = assert_exact(path, full_decode(path), rate=2.0, threads=2)
    assert [gap.ordinal for gap in source.report().missing] == [0, 1]
    assert "damaged or missing" in source.report().missing[0].reason


def test_nothing_decodable_is_an_error(clips: dict[str, Path], tmp_path: Path) -> None:
    data = bytearray(clips["short_gop"].read_bytes())
    begin = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[begin:end] = np.random.default_rng(3).integers(1, 256, end - begin).astype(np.uint8).tobytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(bytes(data))
    with pytest.raises((FrameDecodeError, VideoOpenError)):
        read_all(PyAVSource(broken, Sampling(1.0)))
    source = PyAVSource(clips["delayed"], Sampling(1.0))
    with pytest.raises(FrameDecodeError, match="no frame is shown yet"):
        read_all(source, [0, 1])
