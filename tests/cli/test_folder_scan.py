"""What lies below a folder: every kind that is read, nothing of the system or of a player, and a count of the rest."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from hybrid.cli.app import app
from hybrid.cli.input.folder_scan import PassedOver, videos_below
from hybrid.cli.input.paths import FoundVideos, find_videos
from hybrid.errors import InputError
from tests.make_videos import encode


def _names(folder: Path, found: FoundVideos) -> list[str]:
    return [os.fsdecode(os.fsencode(path.relative_to(folder).as_posix())) for path in found.videos]


def _touch(folder: Path, *names: str, data: bytes = b"\0") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _moving(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [Image.new("RGB", (16, 16), (0, 80 * n, 0)) for n in range(3)]
    kind = "PNG" if path.suffix == ".apng" else None
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], duration=500)
    return path


def _still(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16)).save(path)
    return path


SCANNED = """
    dv m2v h264 hevc rm asf nut ivf y4m 264 265 3g2 f4v m1v m2t m4v mjpeg mk3d obu ogm rmvb vob wtv MP4 WebM
    """.split()  # noqa: SIM905


@pytest.mark.parametrize("ending", SCANNED)
def test_a_kind_that_is_read_when_named_is_scanned(ending: str, tmp_path: Path) -> None:
    _touch(tmp_path, f"deep/film.{ending}", "deep/film.srt")
    found = find_videos([str(tmp_path)])
    assert _names(tmp_path, found) == [f"deep/film.{ending}"]
    assert found.passed_over.endings == {".srt": 1}


@pytest.mark.parametrize("ending", ["gif", "webp", "apng"])
def test_moving_pictures_are_videos(ending: str, tmp_path: Path) -> None:
    for n in range(3):
        _moving(tmp_path / "memes" / f"{n}.{ending}")
    found = find_videos([str(tmp_path / "memes")])
    assert _names(tmp_path, found) == [f"memes/{n}.{ending}" for n in range(3)]
    assert _names(tmp_path, find_videos([str(tmp_path)])) == [f"memes/{n}.{ending}" for n in range(3)]


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_still_pictures_are_the_images_of_one_video_or_nothing(ending: str, tmp_path: Path) -> None:
    for n in range(3):
        _still(tmp_path / "frames" / f"sec{n:03d}.{ending}")
    _still(tmp_path / f"logo.{ending}")
    found = find_videos([str(tmp_path)])
    assert _names(tmp_path, found) == ["frames"]
    assert found.passed_over.reasons == {"picture that does not move": 1}


def test_a_broken_picture_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    _touch(tmp_path, "broken.gif", data=b"GIF89a")
    assert _names(tmp_path, find_videos([str(tmp_path)])) == ["broken.gif"]


SYSTEM = {
    "film.trickplay/320 - 10x10/0.jpg": "folder of a player's tile sheets",
    "@eaDir/film.mp4/SYNOVIDEO_VIDEO_SCREENSHOT1.jpg": "folder of the system or of a player",
    ".@__thumb/s100film1.jpg": "folder of the system or of a player",
    "#recycle/old.mp4": "folder of the system or of a player",
    "@Recycle/old.mp4": "folder of the system or of a player",
    ".Trash-1000/files/old.mp4": "folder of the system or of a player",
    ".Trashes/501/old.mp4": "folder of the system or of a player",
    "$RECYCLE.BIN/S-1-5/old.mp4": "folder of the system or of a player",
    "System Volume Information/a.mp4": "folder of the system or of a player",
    "__MACOSX/film.mp4": "folder of the system or of a player",
    "lost+found/#123.mp4": "folder of the system or of a player",
    "extrathumbs/thumb1.jpg": "folder of the system or of a player",
    ".cache/sec000.png": "hidden folder",
    ".git/a.ts": "hidden folder",
    ".hidden.mp4": "hidden file",
    "._film.mp4": "hidden file",
    "app.ts": "text called .ts",
    "module.mts": "text called .mts",
}


@pytest.mark.parametrize("name", SYSTEM)
def test_what_belongs_to_the_system_or_a_player_is_no_video(name: str, tmp_path: Path) -> None:
    _touch(tmp_path, "film.mp4")
    _touch(tmp_path, name, data=b"export const a = 1;\n" if name.endswith("ts") else b"\0")
    found = find_videos([str(tmp_path)])
    assert _names(tmp_path, found) == ["film.mp4"]
    assert found.passed_over.reasons == {SYSTEM[name]: 1}
    assert not found.passed_over.endings


def test_what_is_named_is_scanned_whatever_it_is_called(tmp_path: Path) -> None:
    _touch(tmp_path, ".private/film.mp4", "a.trickplay/0.jpg", ".one.mp4")
    named = [str(tmp_path / name) for name in (".private", "a.trickplay", ".one.mp4")]
    assert _names(tmp_path, find_videos(named)) == [".private/film.mp4", "a.trickplay", ".one.mp4"]


def test_a_system_folder_in_a_folder_of_images_does_not_hide_the_images(tmp_path: Path) -> None:
    _touch(tmp_path, "frames/sec000.png", "frames/@eaDir/sec000.png/thumb1.jpg", "frames/.DS_Store")
    assert _names(tmp_path, find_videos([str(tmp_path)])) == ["frames"]


def test_links_to_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    library, elsewhere = tmp_path / "library", tmp_path / "elsewhere"
    _touch(library, "a/one.mp4", "z/two.mp4")
    _touch(elsewhere, "deep/three.mp4")
    (library / "all").symlink_to(library)  # a circle
    (library / "a" / "up").symlink_to("..")  # another one
    (library / "a" / "b").symlink_to(library / "z")  # a second name of a folder
    (elsewhere / "deep" / "back").symlink_to(library)
    (library / "more").symlink_to(elsewhere)
    (library / "linked.mp4").symlink_to(elsewhere / "deep" / "three.mp4")
    (library / "broken.mp4").symlink_to(tmp_path / "nothing")
    (library / "self.mp4").symlink_to(library / "self.mp4")
    found = find_videos([str(library)])
    assert _names(library, found) == ["a/one.mp4", "linked.mp4", "more/deep/three.mp4", "z/two.mp4"]
    assert found.passed_over.reasons == {"broken link": 2}


def test_pipes_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ts")
    os.mkfifo(tmp_path / "pipe.gif")
    with pytest.raises(InputError, match="2 x pipe, socket or device"):
        find_videos([str(tmp_path)])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    os.mkdir(folder + b"/caf\xe9")
    for name in (b"/caf\xe9/film.mp4", b"/\xff.mkv", b"/note.\xfe"):
        with open(folder + name, "wb"):
            pass
    found = find_videos([str(tmp_path)])
    assert [os.fsencode(path)[len(folder) :] for path in found.videos] == [b"/caf\xe9/film.mp4", b"/\xff.mkv"]
    assert found.passed_over.endings == {os.fsdecode(b".\xfe"): 1}


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A path longer than the system takes: that stops the superuser too."""
    _touch(tmp_path, "film.mp4")
    name = "d" * 200
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(25):
            os.mkdir(name)
            os.chdir(name)
    finally:
        os.chdir(before)
    found = find_videos([str(tmp_path)])
    assert _names(tmp_path, found) == ["film.mp4"]
    assert len(found.passed_over.unreadable) == 1
    assert "1 folder that cannot be read" in found.passed_over.line()
    assert "File name too long" in found.passed_over.line()


def test_the_summary_is_one_line_with_counts(tmp_path: Path) -> None:
    _touch(tmp_path, "film.mp4", "list.m3u8", *(f"sample{n}.txt" for n in range(300)), ".Trash-0/a.mp4", "README")
    passed = find_videos([str(tmp_path)]).passed_over
    assert passed.line() == (
        "passed over: 302 files of other kinds (300 .txt, 1 without ending, 1 .m3u8); "
        "1 x folder of the system or of a player"
    )
    assert passed.to_dict() == {
        "endings": {".txt": 300, "": 1, ".m3u8": 1},
        "reasons": {"folder of the system or of a player": 1},
        "unreadable": [],
    }


def test_nothing_is_said_where_nothing_is_passed_over(tmp_path: Path) -> None:
    _touch(tmp_path, "a.mp4", "b/c.mkv")
    assert not find_videos([str(tmp_path)]).passed_over


def test_a_folder_is_looked_into_no_further_than_is_asked(tmp_path: Path) -> None:
    _touch(tmp_path, "a.mp4", "b/c.mp4")
    passed = PassedOver()
    assert next(videos_below(tmp_path, passed)) == tmp_path / "a.mp4"


def test_index_says_what_was_passed_over(clip_folder: Path, tmp_path: Path) -> None:
    films = tmp_path / "films"
    _touch(films, "@eaDir/a.jpg", "esc\x1b[2J.t\x1bt", *(f"{n}.srt" for n in range(3)))
    encode(films / "a.mp4", "mpeg4", frames=30)
    command = ["index", str(films), "--archive", str(tmp_path / "archive"), "--encoder", f"local-dir:{clip_folder}"]
    for more in (["--dry-run"], []):
        shown = CliRunner().invoke(app, [*command, *more, "--device", "cpu", "--workers", "0"])
        lines = [line for line in shown.stderr.splitlines() if line.startswith("passed over")]
        assert lines == [
            "passed over: 4 files of other kinds (3 .srt, 1 .t\\x1bt); 1 x folder of the system or of a player"
        ]
    shown = CliRunner().invoke(app, [*command, "--dry-run", "--json"])
    events = [json.loads(line) for line in shown.stdout.splitlines()]
    assert events[0] == {
        "event": "passed_over",
        "endings": {".srt": 3, ".t\x1bt": 1},
        "reasons": {"folder of the system or of a player": 1},
        "unreadable": [],
    }
