"""The timeline of a file: where it begins and ends, what is cut or out of place."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from av.video.stream import VideoStream

from hybrid.errors import VideoOpenError
from hybrid.formatting import plural
from hybrid.frames.decoders.pyav import PyAVSource
from hybrid.frames.packets import scan as scan_module
from hybrid.frames.packets.bitstream import KeyPackets
from hybrid.frames.packets.plan import NO_PTS, Clock
from hybrid.frames.packets.scan import scan
from hybrid.frames.packets.timeline import StreamTimes, last_end, straighten
from hybrid.values import Sampling, SamplingPolicy
from tests.frames.full_decode import assert_same, full_decode, read_all
from tests.make_videos import (
    FPS,
    MS,
    encode,
    joined,
    read_number,
    repeated,
    uneven_times,
    with_long_last_frame,
    with_stated_length,
    x264,
)


@pytest.mark.parametrize(
    ("name", "first", "end"),
    [
        ("long_gop", 0.0, 10.0),
        ("ts", 0.0, 10.0),
        ("late_start", 0.0, 4.0),
        ("delayed", 2.5, 6.5),
        ("ntsc", 0.0, 10.01),
        ("raw", 0.0, 5.0),
        ("no_pts", 0.0, 5.0),
    ],
)
def test_where_the_timeline_begins_and_ends(clips: dict[str, Path], name: str, first: float, end: float) -> None:
    movie = scan(clips[name])
    times = movie.times[movie.times != NO_PTS]
    assert float(movie.clock.seconds(int(times.min()))) == pytest.approx(first, abs=2e-3)
    assert movie.end_seconds == pytest.approx(end, abs=2e-3)
    assert movie.note is None


def test_a_start_that_is_rounded_to_microseconds_is_exact(tmp_path: Path) -> None:
    times = [7 + 1001 * n for n in range(60)]
    path = encode(tmp_path / "odd.mp4", "libx264", options=x264(), frames=60, times=times, time_base=Fraction(1, 30000))
    movie = scan(path)
    assert float(movie.clock.seconds(int(movie.times.min()))) == 0.0


def test_sound_that_goes_on_is_not_a_cut(clips: dict[str, Path]) -> None:
    # The sound lasts 10 s, the video 6.5 s; Matroska states only the length of both.
    assert scan(clips["delayed"]).note is None


def test_a_stale_length_does_not_cost_the_rest_of_the_video(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mkv", "libx264", options=x264(), frames=400, fps=2, gop=20)
    stale = with_stated_length(tmp_path / "stale.mkv", whole, seconds=10)
    assert scan(whole).note is None
    source = PyAVSource(stale, Sampling(1.0))
    found, right = read_all(source), read_all(PyAVSource(whole, Sampling(1.0)))
    assert_same(found, right)
    assert len(found.ordinals) == 200
    report = source.report()
    assert report.duration_seconds == pytest.approx(200.0)
    assert not report.cut
    assert "its packets go on after that" in str(report.note)


def test_packets_that_are_left_out_make_the_report_partial(tmp_path: Path) -> None:
    times = [*range(0, 2000, 33), 864_000_000]
    made = encode(
        tmp_path / "made.mkv", "libx264", options=x264(bf="0"), frames=len(times), times=times, time_base=MS, gop=30
    )
    path = with_stated_length(tmp_path / "wild.mkv", made, seconds=2)
    source = PyAVSource(path, Sampling(1.0))
    assert read_all(source).ordinals == [0, 1, 2]
    assert source.report().duration_seconds == pytest.approx(2.013, abs=2e-3)
    assert source.report().cut
    assert "1 packet with a time stamp outside of the video left out" in str(source.report().note)


@pytest.mark.parametrize("early", [1, 40])
def test_what_lies_before_the_beginning_is_left_out(early: int) -> None:
    times = np.arange(100) * 40
    times[:early] -= 100_000
    found = straighten(times, np.ones(100, bool), Clock(MS, Fraction(0)), 4.0, None)
    assert np.flatnonzero(found.wild).tolist() == list(range(early))
    assert found.notes == [f"{plural(early, 'packet')} with a time stamp outside of the video left out"]
    assert found.stated == 4.0
    # What an edit list cuts off is no loss.
    kept = np.arange(100) >= early
    assert straighten(times, kept, Clock(MS, Fraction(0)), 4.0, None).notes == []


def test_a_video_that_lies_before_the_beginning_altogether_is_not_left_out() -> None:
    times = np.arange(100) * 40 - 100_000
    found = straighten(times, np.ones(100, bool), Clock(MS, Fraction(0)), None, None)
    assert not found.wild.any()
    assert found.notes == []


def test_a_last_frame_without_end_ends_where_the_container_does(tmp_path: Path) -> None:
    times = uneven_times(50, seed=4)
    made = encode(tmp_path / "made.mp4", "libx264", options=x264(bf="0"), gop=25, frames=50, times=times, time_base=MS)
    end = scan(made).end_seconds
    path = with_long_last_frame(tmp_path / "long.mp4", made, ticks=16_000 * 9 * 3600)
    movie = scan(path)
    assert movie.end_seconds == pytest.approx(end, abs=0.1)
    assert not movie.cut


@pytest.mark.parametrize(
    ("hold", "stated", "others", "end", "believed", "note"),
    [
        (900, None, None, 2.0, None, "nothing else bears that out"),
        (900, 902.0, None, 2.0, None, "nothing else bears that out"),
        (900, 902.0, 902.0, 902.0, 902.0, "is said to be shown for 900 s more"),  # the sound lasts as long
        (900, 902.0, 300.0, 2.0, None, "nothing else bears that out"),
        (900, 6.0, None, 6.0, 6.0, ""),
        (900, 1.0, None, 2.0, 1.0, ""),
        (30, None, None, 32.0, None, "is said to be shown for 30 s more"),  # a title at the end
        (2, 2.0, None, 3.96, 2.0, ""),
    ],
)
def test_the_duration_of_the_last_packet(
    hold: int, stated: float | None, others: float | None, end: float, believed: float | None, note: str
) -> None:
    times = np.arange(0, 2000, 40)
    every, clock, stream = np.ones(50, bool), Clock(MS, Fraction(0)), cast(VideoStream, None)
    durations = np.where(times == 1960, hold * 1000 + (0 if hold == 2 else 40), 40)
    times_found = StreamTimes(clock, times, ~every, stated, (), [])
    found, notes, still = last_end(times_found, durations, every, stream, lambda: others)
    assert found == pytest.approx(end)
    assert still == believed
    assert note in " ".join(notes)
    assert bool(notes) == bool(note)


def test_packets_out_of_place_do_not_stretch_the_video(tmp_path: Path) -> None:
    # The last picture claims to be shown ten days later; the stream's stated duration says it, too.
    times = [*range(0, 2000, 33), 864_000_000]
    path = encode(
        tmp_path / "wild.mkv", "libx264", options=x264(bf="0"), frames=len(times), times=times, time_base=MS, gop=30
    )
    source = PyAVSource(path, Sampling(0.001))
    found = read_all(source)
    assert len(found.ordinals) == 865
    assert found.numbers[:-1] == [0] + [60] * 863
    assert source.report().frames_decoded < 40


@pytest.mark.parametrize("policy", ["exact", "keyframes"])
def test_a_clock_that_starts_over_loses_nothing(tmp_path: Path, policy: SamplingPolicy) -> None:
    first = encode(tmp_path / "first.ts", "libx264", options=x264(), frames=150, gop=60)
    second = encode(tmp_path / "second.ts", "libx264", options=x264(), frames=90, gop=60)
    path = joined(tmp_path / "joined.ts", [first, second, first])
    reference = full_decode(path)
    source = PyAVSource(path, Sampling(3.0, policy))
    found = read_all(source)
    report = source.report()
    assert report.duration_seconds == pytest.approx(13.0, abs=1e-3)
    assert "the clock jumps back at 4.97 s and 1 time more; what follows is put behind it" in str(report.note)
    assert not report.cut
    assert report.missing == ()
    keys = [n for n, key in enumerate(reference.key) if key]
    assert found.numbers == (list(range(0, 390, 10)) if policy == "exact" else keys)
    assert found.seconds == pytest.approx([n / 30 for n in found.numbers], abs=1e-4)
    assert all((rgb == reference.rgb[n]).all() for n, rgb in zip(found.numbers, found.rgb, strict=True))
    asked = found.ordinals[1::3]
    assert read_all(source, asked).numbers == found.numbers[1::3]


@pytest.mark.parametrize("start", [20, 5000])
def test_a_second_part_that_is_earlier_than_the_first(tmp_path: Path, start: int) -> None:
    # More than a minute earlier, FFmpeg takes the clock for run over: the second part seems a day later.
    late = [start * 90_000 + 3000 * n for n in range(40)]
    first = encode(
        tmp_path / "first.ts", "libx264", options=x264(), frames=40, times=late, time_base=Fraction(1, 90_000)
    )
    second = encode(tmp_path / "second.ts", "libx264", options=x264(), frames=40)
    source = PyAVSource(joined(tmp_path / "joined.ts", [first, second]), Sampling(15.0))
    found = read_all(source)
    assert found.numbers == list(range(0, 80, 2))
    assert [read_number(rgb) for rgb in found.rgb] == [n % 40 for n in found.numbers]
    assert source.report().duration_seconds == pytest.approx(80 / 30, abs=1e-3)
    assert not source.report().cut


def test_frames_that_go_back_a_little_are_counted(clips: dict[str, Path]) -> None:
    source = PyAVSource(clips["ts"], Sampling(1.0))
    movie = source._movie
    # As if the time stamps of ten frames were those of eleven frames before.
    times = movie.times.copy()
    times[(times >= np.sort(times)[100]) & (times < np.sort(times)[110])] -= 33_000
    source._movie = replace(movie, times=times, unsafe="the test says so")
    assert len(read_all(source).ordinals) == 10
    assert "10 frames are left out because the time stamps go back" in str(source.report().note)
    assert source.report().cut


def test_a_packet_of_a_long_video_takes_few_bytes() -> None:
    class ManyPackets:
        format = SimpleNamespace(name="mp4")

        def demux(self, stream: object) -> Iterator[object]:
            for number in range(100_000):
                large = 10**12 + number
                yield SimpleNamespace(
                    pts=large, dts=large, duration=large, size=large, pos=large, is_keyframe=False, is_discard=False
                )

    table = scan_module._Table(KeyPackets("mjpeg", b""))
    tracemalloc.start()
    try:
        table.read_all(ManyPackets(), None)  # type: ignore[arg-type]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table.pts) == 100_000
    assert taken / 100_000 < 60


def test_memory_does_not_grow_with_the_length(clips: dict[str, Path], tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    path = repeated(tmp_path / "long.mp4", clips["short_gop"], times=25)
    process = psutil.Process()
    start = process.memory_info().rss
    source = PyAVSource(path, Sampling(float(FPS)), threads=3, batch_bytes=2**20)
    assert source.info.duration_seconds == pytest.approx(250, abs=0.1)
    most = frames = 0
    for batch in source.read():
        frames += len(batch)
        most = max(most, process.memory_info().rss - start)
    assert frames == 7500
    # All frames together are 345 MB; at most 64 MB may wait.
    assert most < 150 * 2**20
    assert source.report().frames_decoded == 7500


def test_a_table_that_shows_the_same_data_again_and_again_is_refused() -> None:
    scan_module._check_repeats(10**9, 10**9)
    scan_module._check_repeats(60_000_000, 1000)  # a small file may repeat itself
    with pytest.raises(VideoOpenError, match="at most 16 times the file are read"):
        scan_module._check_repeats(17 * 10**9, 10**9)


@pytest.mark.parametrize("padding", [b"\0", b"\xff"])
def test_the_rest_of_a_reserved_file_is_no_read_error(clips: dict[str, Path], tmp_path: Path, padding: bytes) -> None:
    path = tmp_path / "reserved.ts"
    path.write_bytes(clips["ts"].read_bytes() + padding * 70_000)
    movie = scan(path)
    assert not movie.cut
    assert movie.note is None


@pytest.mark.parametrize("behind", [b"TAGhello, no box", b"</html>\n" * 9, b"\xff" * 99])
@pytest.mark.parametrize("name", ["short_gop", "open_gop"])
def test_what_stands_behind_the_last_box_is_no_cut(
    clips: dict[str, Path], tmp_path: Path, name: str, behind: bytes
) -> None:
    path = tmp_path / clips[name].name
    path.write_bytes(clips[name].read_bytes() + behind)
    assert not scan(path).cut
