"""Files that were altered, cut or taken away are found, and never answer in place of the true ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from archive_samples import some_index, unit_vectors, video_id

from hybrid.errors import IndexDamagedError
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.manifest import Manifest

ONE = video_id(1)
QUERY = unit_vectors(1, 16, 5)[0]


@pytest.fixture
def faiss_archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive.open(tmp_path / "archive", backend="faiss") as archive:
        archive.commit(ONE, NewIndex(**some_index(1)))
        yield archive


def the_file(archive: Archive, pattern: str) -> Path:
    (path,) = (archive.folder / "videos" / ONE).glob(pattern)
    return path


def flip(path: Path, place: int, mask: int = 0x01) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= mask
    path.write_bytes(data)


@pytest.mark.parametrize("pattern", ["vectors-*", "timeline-*"])
def test_every_flipped_byte_of_vectors_and_timeline_is_found(faiss_archive: Archive, pattern: str) -> None:
    path = the_file(faiss_archive, pattern)
    whole = path.read_bytes()
    chance = random.Random(1)
    # All of the header (where a change could make a reader run past its memory), some of the rest.
    places = [*range(200), *(chance.randrange(len(whole)) for _ in range(100))]
    for place in places:
        flip(path, place, 1 << chance.randrange(8))
        with pytest.raises(IndexDamagedError, match="to mend it, delete the folder"):
            faiss_archive.verify(ONE)
        path.write_bytes(whole)
    assert faiss_archive.verify(ONE)


def test_searching_a_file_with_a_flipped_header_never_crashes(faiss_archive: Archive) -> None:
    path = the_file(faiss_archive, "vectors-*")
    whole = path.read_bytes()
    truth = faiss_archive.search(ONE, QUERY, 40)
    refused = 0
    for place in range(81):
        for mask in (0x01, 0x80):
            flip(path, place, mask)
            try:
                hits = faiss_archive.search(ONE, QUERY, 40)
                np.testing.assert_array_equal(hits.rows, truth.rows)
            except IndexDamagedError:
                refused += 1
            path.write_bytes(whole)
    assert refused > 81
    np.testing.assert_array_equal(faiss_archive.search(ONE, QUERY, 40).rows, truth.rows)


@pytest.mark.parametrize("pattern", ["vectors-*", "timeline-*"])
def test_cut_and_missing_files_are_found(faiss_archive: Archive, pattern: str) -> None:
    path = the_file(faiss_archive, pattern)
    whole = path.read_bytes()

    def use() -> None:
        if pattern == "vectors-*":
            faiss_archive.search(ONE, QUERY, 3)
        else:
            faiss_archive.timeline(ONE)

    use()
    for length in (0, 1, 4, 30, 80, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(IndexDamagedError):
            use()
    path.unlink()
    with pytest.raises(IndexDamagedError, match=r"No such file|is missing"):
        use()
    path.write_bytes(whole)
    use()


def test_a_file_put_in_place_of_an_open_one_is_noticed(faiss_archive: Archive, tmp_path: Path) -> None:
    faiss_archive.search(ONE, QUERY, 3)
    with Archive.open(tmp_path / "other") as other:
        other.commit(ONE, NewIndex(**some_index(2)))
        the_file(other, "vectors-*").replace(the_file(faiss_archive, "vectors-*"))
    for look in (lambda: faiss_archive.search(ONE, QUERY, 3), lambda: faiss_archive.read(ONE)):
        with pytest.raises(IndexDamagedError, match="not what was written"):
            look()
    with pytest.raises(IndexDamagedError):
        faiss_archive.verify(ONE)


@pytest.mark.parametrize("backend", ["faiss", "lancedb"])
def test_a_flipped_bit_of_the_vectors_is_never_an_answer(tmp_path: Path, backend: str) -> None:
    place = tmp_path / "archive"
    with Archive.open(place, backend=backend) as archive:
        archive.commit(ONE, NewIndex(**some_index(1, count=400)))
        truth, vectors = archive.search(ONE, QUERY, 40), archive.read(ONE)
    pattern = f"videos/{ONE}/vectors-*" if backend == "faiss" else "frames_16.lance/data/*.lance"
    (path,) = place.glob(pattern)
    whole, chance, refused = path.read_bytes(), random.Random(3), 0
    for _ in range(40):
        flip(path, chance.randrange(len(whole)), 1 << chance.randrange(8))
        with Archive.open(place) as archive:
            try:
                found = archive.search(ONE, QUERY, 40)
            except IndexDamagedError:
                refused += 1
                with pytest.raises(IndexDamagedError):
                    archive.read(ONE)
            else:  # a bit that carries nothing of ours
                assert found.rows.tolist() == truth.rows.tolist()
                np.testing.assert_array_equal(found.similarities, truth.similarities)
                np.testing.assert_array_equal(archive.read(ONE), vectors)
        path.write_bytes(whole)
    assert refused >= 20


@pytest.mark.parametrize("part", ["half", "value"])
def test_an_altered_manifest_is_found(archive: Archive, part: str) -> None:
    archive.commit(ONE, NewIndex(**some_index(1)))
    path = the_file(archive, "manifest.json")
    text = path.read_text("utf-8")
    path.write_text(text[: len(text) // 2] if part == "half" else text.replace('"rate": 1.0', '"rate": 2.0'), "utf-8")
    with pytest.raises(IndexDamagedError):
        archive.verify(ONE)


def test_flipped_bytes_in_a_lance_table_are_found_or_harmless(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "archive", backend="lancedb") as archive:
        archive.commit(ONE, NewIndex(**some_index(1, count=400)))
        truth = archive.read(ONE)
    (path,) = (tmp_path / "archive").glob("frames_16.lance/data/*.lance")
    whole = path.read_bytes()
    chance = random.Random(2)
    found = 0
    for _ in range(25):
        flip(path, chance.randrange(len(whole)), 1 << chance.randrange(8))
        with Archive.open(tmp_path / "archive") as archive:
            try:
                archive.verify(ONE)
            except IndexDamagedError:
                found += 1
            else:  # a byte that carries nothing of ours: padding, statistics
                np.testing.assert_array_equal(archive.read(ONE), truth)
        path.write_bytes(whole)
    assert found >= 10
    with Archive.open(tmp_path / "archive") as archive:
        assert archive.verify(ONE)


def test_what_the_error_says_mends_it(archive: Archive) -> None:
    written = archive.commit(ONE, NewIndex(**some_index(1)))
    damage_vectors(archive, written)
    with pytest.raises(IndexDamagedError, match="to mend it, delete the folder"):
        archive.verify(ONE)
    for path in (archive.folder / "videos" / ONE).iterdir():
        path.unlink()
    (archive.folder / "videos" / ONE).rmdir()
    archive.commit(ONE, NewIndex(**some_index(1)))
    assert archive.verify(ONE).generation == written.generation
    assert len(list(archive.store.keys())) == 1


def damage_vectors(archive: Archive, manifest: Manifest) -> None:
    backend: str = archive.backend
    if backend == "faiss":
        flip(the_file(archive, "vectors-*"), 500)
    else:  # other vectors under the same name, as a damaged data file would give
        archive.store.write(manifest.key, unit_vectors(40, 16, 99))


def test_a_lance_table_that_cannot_be_opened(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "archive", backend="lancedb") as archive:
        archive.commit(ONE, NewIndex(**some_index(1)))
    for path in (tmp_path / "archive" / "frames_16.lance" / "_versions").iterdir():
        path.write_bytes(b"")
    with Archive.open(tmp_path / "archive") as archive:
        with pytest.raises(IndexDamagedError, match="index all videos again"):
            archive.search(ONE, QUERY, 3)
        assert archive.up_to_date(ONE, some_index(1)["config"]) is None
