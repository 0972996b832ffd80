"""A video is known by its content; reading it twice is saved only where that is safe."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import blake3
import pytest

from hybrid.errors import VideoOpenError
from indexes.archive import content_id as identity
from indexes.archive.content_id import identify
from indexes.archive.writer import Archive


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The videos whose content was read."""
    seen: list[Path] = []
    original = identity.content_id

    def counting(place: Path) -> str:
        seen.append(place)
        return original(place)

    monkeypatch.setattr(identity, "content_id", counting)
    return seen


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file systems that tests run on count time finely; the margin for coarse ones would be waited for."""
    monkeypatch.setattr("hybrid.storage.file_identity.RECENT_SECONDS", 0.03)


def settle() -> None:
    """Let so much time go by that a file's times are old enough to be trusted."""
    time.sleep(0.05)


def make_video(path: Path, content: bytes = b"video" * 1000) -> Path:
    path.write_bytes(content)
    settle()
    return path


def make_folder(folder: Path, names: tuple[str, ...] = ("sec000.png", "sec001.png")) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        (folder / name).write_bytes(b"image %d" % number)
    settle()
    return folder


def test_the_id_of_a_file_is_its_blake3(tmp_path: Path) -> None:
    content = os.urandom(9_000_001)  # more than one chunk, and not a multiple
    path = make_video(tmp_path / "a.mp4", content)
    assert identify(path) == blake3.blake3(content).hexdigest(length=16)
    assert identify(str(path)) == identify(path)


def test_an_unchanged_video_is_read_once(tmp_path: Path, reads: list[Path]) -> None:
    archive = Archive.open(tmp_path / "archive")
    for video in (make_video(tmp_path / "a.mp4"), make_folder(tmp_path / "frames")):
        ids = {archive.identify(video), archive.identify(video), Archive.open(tmp_path / "archive").identify(video)}
        assert len(ids) == 1
        assert reads.count(video) == 1


def test_renamed_and_moved_videos_keep_their_id(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path / "archive")
    video = make_video(tmp_path / "a.mp4")
    found = archive.identify(video)
    (tmp_path / "deep").mkdir()
    moved = video.rename(tmp_path / "deep" / "b.mkv")
    assert archive.identify(moved) == found
    assert archive.identify(shutil.copy(moved, tmp_path / "copy.mp4")) == found
    with pytest.raises(VideoOpenError, match="No such file"):
        archive.identify(video)


def test_changed_content_is_noticed_even_with_size_and_time_set_back(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    video = make_video(tmp_path / "a.mp4", b"a" * 100)
    before = identify(video, cache=cache)
    status = video.stat()
    video.write_bytes(b"b" * 100)
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert video.stat().st_mtime_ns == status.st_mtime_ns
    assert identify(video, cache=cache) == blake3.blake3(b"b" * 100).hexdigest(length=16) != before


def test_another_file_at_the_same_path_is_noticed(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    video, other = make_video(tmp_path / "a.mp4", b"a" * 100), make_video(tmp_path / "b.mp4", b"b" * 100)
    before = identify(video, cache=cache)
    os.replace(other, video)
    assert identify(video, cache=cache) != before


def test_a_video_that_is_being_written_is_not_remembered(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.storage.file_identity.RECENT_SECONDS", 3600.0)
    video = tmp_path / "a.mp4"
    video.write_bytes(b"fresh")  # no time to settle: a change in the same tick would leave no trace
    identify(video, cache=tmp_path / "cache")
    identify(video, cache=tmp_path / "cache")
    assert len(reads) == 2


def test_a_video_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_video(tmp_path / "a.mp4", b"a" * 100)
    original = identity.content_id

    def slow(place: Path) -> str:
        found = original(place)
        place.write_bytes(b"b" * 100)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(identity, "content_id", slow)
        identify(video, cache=tmp_path / "cache")
    assert identify(video, cache=tmp_path / "cache") == blake3.blake3(b"b" * 100).hexdigest(length=16)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"path": 1}', b"\xff\xfe"])
def test_a_damaged_cache_counts_as_none(tmp_path: Path, content: bytes) -> None:
    video, cache = make_video(tmp_path / "a.mp4"), tmp_path / "cache"
    found = identify(video, cache=cache)
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    for damaged in (content, whole[: len(whole) // 2], whole.replace(found.encode(), b"not hexadecimal!")):
        entry.write_bytes(damaged)
        assert identify(video, cache=cache) == found
        assert entry.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4")
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    assert identify(video, cache=tmp_path / "cache") == identify(video)


def test_the_id_of_a_folder_is_that_of_its_images(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "frames")
    before = identify(folder)
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_bytes(b"not for us")
    assert identify(folder) == before
    assert identify(folder.rename(tmp_path / "moved")) == before
    folder = tmp_path / "moved"
    (folder / "sec001.png").rename(folder / "sec002.png")
    renamed = identify(folder)
    (folder / "sec002.png").write_bytes(b"other")
    assert len({before, renamed, identify(folder)}) == 3


def test_swapped_images_are_another_video(tmp_path: Path) -> None:
    one = make_folder(tmp_path / "a", ("sec000.png", "sec001.png"))
    two = make_folder(tmp_path / "b", ("sec001.png", "sec000.png"))
    assert identify(one) != identify(two)


def test_a_changed_image_in_a_folder_is_noticed(tmp_path: Path) -> None:
    folder, cache = make_folder(tmp_path / "frames"), tmp_path / "cache"
    before = identify(folder, cache=cache)
    (folder / "sec001.png").write_bytes(b"image 9")
    assert identify(folder, cache=cache) != before


def test_folders_without_images_and_missing_paths(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoOpenError, match="holds no images"):
        identify(tmp_path / "empty", cache=tmp_path / "cache")
    with pytest.raises(VideoOpenError, match="No such file"):
        identify(tmp_path / "none.mp4", cache=tmp_path / "cache")


def test_no_flipped_bit_in_the_cache_gives_another_id(tmp_path: Path) -> None:
    video, cache = make_video(tmp_path / "a.mp4"), tmp_path / "cache"
    right = identify(video, cache=cache)
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    for bit in range(0, 8 * len(whole), 7):  # 7: every byte, and every bit of a byte in turn
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        entry.write_bytes(bytes(changed))
        assert identify(video, cache=cache) == right, f"bit {bit}"
        entry.write_bytes(whole)


def test_entries_that_were_swapped_are_not_believed(tmp_path: Path) -> None:
    one, other = make_video(tmp_path / "a.mp4", b"a" * 500), make_video(tmp_path / "b.mp4", b"b" * 500)
    cache = tmp_path / "cache"
    right = [identify(video, cache=cache) for video in (one, other)]
    first, second = sorted(cache.iterdir())
    a, b = json.loads(first.read_bytes()), json.loads(second.read_bytes())
    for name in ("video_id", "signature"):
        first.write_text(json.dumps({**a, name: b[name]}))
        second.write_text(json.dumps({**b, name: a[name]}))
        assert [identify(video, cache=cache) for video in (one, other)] == right


def test_an_id_of_another_process_is_not_good_enough_for_storing(tmp_path: Path, reads: list[Path]) -> None:
    video, cache = make_video(tmp_path / "a.mp4"), tmp_path / "cache"
    right = identify(video, cache=cache)
    assert identify(video, cache=cache, from_cache=False) == right
    assert len(reads) == 2
    here: dict[str, tuple[str, str]] = {}
    assert identify(video, cache=cache, read_here=here, from_cache=False) == right
    assert identify(video, cache=cache, read_here=here, from_cache=False) == right  # this process has read it itself
    assert len(reads) == 3
    make_video(video, b"other" * 500)
    assert identify(video, cache=cache, read_here=here, from_cache=False) != right
