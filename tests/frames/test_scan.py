"""The timeline of a file: where it begins and ends, what is cut or out of place."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from hybrid.frames import scan as scan_module
from hybrid.frames.plan import NO_PTS, Clock
from hybrid.frames.pyav import PyAVSource
from hybrid.frames.scan import scan
from hybrid.values import Sampling
from tests.frames.full_decode import read_all
from tests.make_videos import FPS, MS, encode, repeated, x264


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


def test_a_wild_time_stamp_is_left_out() -> None:
    clock = Clock(MS, Fraction(0))
    times = np.array([0, 40, 80, 10**12, NO_PTS, -(10**9)])
    assert scan_module._outliers(times, clock, 10.0).tolist() == [False, False, False, True, False, True]
    assert scan_module._outliers(times, clock, None).tolist() == [False, False, False, False, False, True]


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


def test_memory_does_not_grow_with_the_length(clips: dict[str, Path], tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    path = repeated(tmp_path / "long.mp4", clips["short_gop"], times=25)
    source = PyAVSource(path, Sampling(float(FPS)), threads=3, batch_bytes=2**20)
    assert source.info.duration_seconds == pytest.approx(250, abs=0.1)
    process = psutil.Process()
    start = process.memory_info().rss
    most = frames = 0
    for batch in source.read():
        frames += len(batch)
        most = max(most, process.memory_info().rss - start)
    assert frames == 7500
    # All frames together are 345 MB; at most 64 MB may wait.
    assert most < 150 * 2**20
    assert source.report().frames_decoded == 7500
