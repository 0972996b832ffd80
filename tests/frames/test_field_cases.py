"""Files from the field that were read wrongly, and more of their kind; ffmpeg's command line says what is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.frames.decoders.pyav import PyAVSource
from hybrid.values import Sampling
from tests.data.cases.barcode import read
from tests.frames.full_decode import read_all
from tests.make_kinds import with_subtitle
from tests.make_videos import MS, encode, first_part, read_number, with_long_last_frame, x264

CASES = Path(__file__).resolve().parent.parent / "data" / "cases"


@pytest.mark.parametrize(
    ("name", "numbers", "note"),
    [
        ("xvid_packed.avi", [0, 22, 47, 72, 97, 122, 147, 172, 197], "packed B-frames"),
        ("subs.mkv", [0, 25, 50, 75, 100, 125, 150, 175], ""),
        ("slow01.mkv", [n // 10 for n in range(70)], ""),
        ("edit_empty.mp4", [50, 75, 100, 125], ""),
        ("dvd.vob", [0, 25, 50, 75, 100, 125, 150, 175], "the decoder's order"),
        ("last_1h.mp4", [0, 25, 50, 75, 100, 125, 150, 175], "is taken to end at 8.00 s"),
    ],
)
@pytest.mark.parametrize("part", [False, True])
def test_a_case(name: str, numbers: list[int], note: str, part: bool) -> None:
    source = PyAVSource(CASES / name, Sampling(1.0))
    asked = list(range(1, len(numbers), 3)) if part else list(range(len(numbers)))
    found = read_all(source, asked if part else None)
    assert found.ordinals == asked
    assert [read(rgb) for rgb in found.rgb] == [numbers[k] for k in asked]
    report = source.report()
    assert not report.cut, report.note
    assert not report.missing
    assert note in (report.note or "")
    assert bool(note) == bool(report.note)


def test_key_frames_of_a_packed_stream() -> None:
    """A picture that only repeats the one before carries the key flag there, and was grey garbage."""
    found = read_all(PyAVSource(CASES / "xvid_packed.avi", Sampling(1.0, "keyframes")))
    assert len(found.ordinals) >= 4
    whole = read_all(PyAVSource(CASES / "xvid_packed.avi", Sampling(25.0)))
    pictures = dict(zip(whole.numbers, whole.rgb, strict=True))
    for number, rgb in zip(found.numbers, found.rgb, strict=True):
        assert read(rgb) == number
        assert (rgb == pictures[number]).all()


@pytest.mark.parametrize("ending", ["mkv", "mov", "mp4", "ts", "nut"])
def test_sound_that_lasts_longer_is_no_cut(tmp_path: Path, ending: str) -> None:
    late = [1500 + 40 * n for n in range(50)]
    path = encode(tmp_path / f"a.{ending}", "libx264", options=x264(), gop=25, frames=50, times=late, time_base=MS,
                  sound_from_zero=ending != "ts" and ending != "mp4")  # fmt: skip
    source = PyAVSource(path, Sampling(2.0))
    found = read_all(source)
    assert not source.report().cut, source.report().note
    assert read_number(found.rgb[-1]) >= 36


@pytest.mark.parametrize("share", [0.4, 0.7, 0.97])
@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
def test_a_cut_file_is_still_called_cut(tmp_path: Path, ending: str, share: float) -> None:
    """Also one whose other streams, or edit list, make its stated length hard to read."""
    options = {"movflags": "faststart"} if ending != "mkv" else {}
    times = [2000 + 40 * n for n in range(100)]
    made = encode(tmp_path / f"whole.{ending}", "libx264", options=x264(), gop=25, frames=100, times=times,
                  time_base=MS, container=options)  # fmt: skip
    if ending == "mkv":
        made = with_subtitle(tmp_path / "subs.mkv", made, until_seconds=60)
    assert not PyAVSource(made, Sampling(1.0))._movie.cut
    source = PyAVSource(first_part(tmp_path / f"part.{ending}", made, share), Sampling(1.0))
    read_all(source)
    report = source.report()
    assert report.cut
    assert "cut: " in str(report.note)
    assert "the file lacks its last" in str(report.note)


@pytest.mark.parametrize(("hours", "samples"), [(1, 2), (40, 2)])
def test_an_absurd_last_duration_is_not_believed(tmp_path: Path, hours: int, samples: int) -> None:
    made = encode(tmp_path / "made.mp4", "libx264", options=x264(bf="0"), gop=25, frames=50, fps=25, time_base=MS,
                  times=[37 * n + n % 2 for n in range(50)])  # fmt: skip
    path = with_long_last_frame(tmp_path / "long.mp4", made, ticks=16_000 * 3600 * hours)
    source = PyAVSource(path, Sampling(1.0))
    assert len(read_all(source).ordinals) == samples
