"""Indexes go from archive to archive, from backend to backend, and stay what they were."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from archive_samples import some_index, video_id

from hybrid.errors import IndexDamagedError, IndexMismatchError, InputError
from indexes.archive import Archive
from indexes.base import BACKENDS, BackendName
from indexes.transfer import copy_index, export_index, import_index

V1 = Path(__file__).resolve().parent.parent / "data" / "archives" / "v1"
ONE = video_id(1)


def assert_same(one: Archive, two: Archive, video: str) -> None:
    assert two.verify(video) == one.verify(video)
    np.testing.assert_array_equal(one.read(video), two.read(video))
    np.testing.assert_array_equal(one.timeline(video).pts_seconds, two.timeline(video).pts_seconds)


@pytest.mark.parametrize("other", BACKENDS)
def test_an_export_is_taken_in_by_either_backend(archive: Archive, other: BackendName, tmp_path: Path) -> None:
    manifest = archive.commit(ONE, **some_index(1))
    file = tmp_path / "one.hybrid"
    size = export_index(archive, manifest, file)
    assert file.stat().st_size == size
    with Archive.open(tmp_path / "other", backend=other) as target:
        assert import_index(target, file) == (manifest, True)
        assert import_index(target, file) == (manifest, False)
        assert_same(archive, target, ONE)
        again = tmp_path / "again.hybrid"
        export_index(target, manifest, again)
    assert again.read_bytes() == file.read_bytes()


def test_another_index_of_the_video_is_replaced_only_on_request(archive: Archive, tmp_path: Path) -> None:
    file = tmp_path / "one.hybrid"
    export_index(archive, archive.commit(ONE, **some_index(1)), file)
    newer = archive.commit(ONE, **some_index(2))
    with pytest.raises(IndexMismatchError, match="--replace"):
        import_index(archive, file)
    assert archive.require(ONE) == newer
    manifest, fresh = import_index(archive, file, replace=True)
    assert fresh
    assert archive.verify(ONE) == manifest
    assert [key.generation for key in archive.store.keys(ONE)] == [manifest.generation]


def test_no_flipped_byte_of_an_export_comes_in(tmp_path: Path) -> None:
    file = tmp_path / "one.hybrid"
    with Archive.open(tmp_path / "from", backend="faiss") as archive:
        manifest = archive.commit(ONE, **some_index(1, count=4))
        export_index(archive, manifest, file)
    whole = file.read_bytes()
    dice = np.random.default_rng(0)
    with Archive.open(tmp_path / "to", backend="faiss") as target:
        for place in dice.choice(len(whole), 200, replace=False).tolist():
            data = bytearray(whole)
            data[place] ^= 1 << int(dice.integers(8))
            file.write_bytes(bytes(data))
            try:
                found, _ = import_index(target, file, replace=True)
            except IndexDamagedError:
                continue
            # What decides the answers is hashed; what else came in is as it was, or was not looked at.
            assert target.verify(found.video_id).vectors_hash == manifest.vectors_hash


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive at all"])
def test_what_is_no_export_is_refused(archive: Archive, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "odd"
    file.write_bytes(content)
    with pytest.raises(IndexDamagedError, match="not an exported index"):
        import_index(archive, file)
    with pytest.raises(InputError, match="no such file"):
        import_index(archive, tmp_path / "absent")
    assert list(archive.manifests()) == []


def test_an_archive_of_version_1_is_converted_whole_and_back(backend: BackendName, tmp_path: Path) -> None:
    other: BackendName = "lancedb" if backend == "faiss" else "faiss"
    folder = shutil.copytree(V1 / backend, tmp_path / "old")
    with (
        Archive.open(folder, create=False) as old,
        Archive.open(tmp_path / "there", backend=other) as there,
        Archive.open(tmp_path / "back", backend=backend) as back,
    ):
        manifests = list(old.manifests())
        assert [copy_index(old, there, manifest) for manifest in manifests] == [True] * len(manifests)
        assert [copy_index(old, there, manifest) for manifest in manifests] == [False] * len(manifests)
        for manifest in manifests:
            assert copy_index(there, back, manifest)
            assert_same(old, there, manifest.video_id)
            assert_same(old, back, manifest.video_id)


def test_a_damaged_index_is_not_copied(tmp_path: Path) -> None:
    with (
        Archive.open(tmp_path / "from", backend="faiss") as archive,
        Archive.open(tmp_path / "to", backend="lancedb") as target,
    ):
        manifest = archive.commit(ONE, **some_index(1))
        (path,) = archive.folder.glob("videos/*/vectors-*")
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
        for attempt in (
            lambda: copy_index(archive, target, manifest),
            lambda: export_index(archive, manifest, tmp_path / "file"),
        ):
            with pytest.raises(IndexDamagedError):
                attempt()
        assert list(target.manifests()) == []
        assert not (tmp_path / "file").exists()
