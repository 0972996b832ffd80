"""Indexes go from archive to archive, from backend to backend, and stay what they were."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_samples import some_index, some_timeline, video_id
from feature_samples import some_items, some_spec

from hybrid.errors import ArchiveError, IndexDamagedError, IndexMismatchError, InputError, VideoNotIndexedError
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.feature_list import FeatureList, FeatureSpec, read_list
from indexes.format.manifest import Manifest, generation_of
from indexes.format.timeline_file import timeline_hash, timeline_to_bytes
from indexes.maintenance.transfer import copy_index, export_index, import_index, read_export
from indexes.stores.registry import STORES

V1 = Path(__file__).resolve().parent.parent / "data" / "archives" / "v1"
ONE = video_id(1)


def assert_same(one: Archive, two: Archive, video: str) -> None:
    assert two.verify(video) == one.verify(video)
    np.testing.assert_array_equal(one.read(video), two.read(video))
    np.testing.assert_array_equal(one.timeline(video).pts_seconds, two.timeline(video).pts_seconds)


@pytest.mark.parametrize("other", STORES.names)
def test_an_export_is_taken_in_by_either_backend(archive: Archive, other: str, tmp_path: Path) -> None:
    manifest = archive.commit(ONE, NewIndex(**some_index(1)))
    file = tmp_path / "one.hybrid"
    size = export_index(archive, manifest, file)
    assert file.stat().st_size == size
    with Archive.open(tmp_path / "other", backend=other) as target:
        assert import_index(target, read_export(file)) == (manifest, True)
        assert import_index(target, read_export(file)) == (manifest, False)
        assert_same(archive, target, ONE)
        again = tmp_path / "again.hybrid"
        export_index(target, manifest, again)
    assert again.read_bytes() == file.read_bytes()


def test_another_index_of_the_video_is_replaced_only_on_request(archive: Archive, tmp_path: Path) -> None:
    file = tmp_path / "one.hybrid"
    export_index(archive, archive.commit(ONE, NewIndex(**some_index(1))), file)
    newer = archive.commit(ONE, NewIndex(**some_index(2)))
    with pytest.raises(IndexMismatchError, match="--replace"):
        import_index(archive, read_export(file))
    assert archive.require(ONE) == newer
    manifest, fresh = import_index(archive, read_export(file), replace=True)
    assert fresh
    assert archive.verify(ONE) == manifest
    assert [key.generation for key in archive.store.keys(ONE)] == [manifest.generation]


def test_an_index_that_is_replaced_meanwhile_is_told_as_that(archive: Archive, tmp_path: Path) -> None:
    older = archive.commit(ONE, NewIndex(**some_index(1)))
    archive.commit(ONE, NewIndex(**some_index(2)))
    with pytest.raises(VideoNotIndexedError, match="replaced or removed by another process"):
        export_index(archive, older, tmp_path / "one.hybrid")
    with (
        Archive.open(tmp_path / "to") as target,
        pytest.raises(VideoNotIndexedError, match="replaced or removed by another process"),
    ):
        copy_index(archive, target, older)
    assert not (tmp_path / "one.hybrid").exists()


def test_no_flipped_byte_of_an_export_comes_in(tmp_path: Path) -> None:
    file = tmp_path / "one.hybrid"
    with Archive.open(tmp_path / "from", backend="faiss") as archive:
        manifest = archive.commit(ONE, NewIndex(**some_index(1, count=4)))
        export_index(archive, manifest, file)
    whole = file.read_bytes()
    dice = np.random.default_rng(0)
    with Archive.open(tmp_path / "to", backend="faiss") as target:
        for place in dice.choice(len(whole), 200, replace=False).tolist():
            data = bytearray(whole)
            data[place] ^= 1 << int(dice.integers(8))
            file.write_bytes(bytes(data))
            try:
                found, _ = import_index(target, read_export(file), replace=True)
            except IndexDamagedError:
                continue
            # What decides the answers is hashed; what else came in is as it was, or was not looked at.
            assert target.verify(found.video_id).vectors_hash == manifest.vectors_hash


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty; give a file that hybrid export wrote"),
        (b"PK\x03\x04 cut", "cut or damaged; copy it again, or write it again with hybrid export"),
        (b"no archive at all", "this is not an exported index; give a file that hybrid export wrote"),
    ],
)
def test_what_is_no_export_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "odd"
    file.write_bytes(content)
    with pytest.raises(IndexDamagedError, match=f"^{file}: .*{says}$"):
        read_export(file)
    with pytest.raises(InputError, match="no such file"):
        read_export(tmp_path / "absent")
    with pytest.raises(InputError, match="directory; give a file that hybrid export wrote"):
        read_export(tmp_path)


def test_a_broken_export_says_what_is_wrong_and_not_what_its_reader_met(archive: Archive, tmp_path: Path) -> None:
    file, other = tmp_path / "one.hybrid", tmp_path / "photos.zip"
    export_index(archive, archive.commit(ONE, NewIndex(**some_index(1))), file)
    whole = file.read_bytes()
    for broken in (whole[:-200], whole[: len(whole) // 2], whole[:200] + b"?" + whole[201:]):
        file.write_bytes(broken)
        with pytest.raises(IndexDamagedError, match=f"^{file}: this exported index is cut or damaged; "):
            read_export(file)
    with zipfile.ZipFile(other, "w") as written:
        written.writestr("photo.png", b"?")
    with pytest.raises(IndexDamagedError, match=r"a ZIP file, but not an exported index: it holds no manifest\.json"):
        read_export(other)


def rewrite(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Alter the manifest in an export, without a digest, as an early version or another program would write it."""
    with zipfile.ZipFile(file) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    document = json.loads(parts["manifest.json"])
    document.pop("digest", None)
    document.pop("vectors_checksum", None)
    change(document)
    with zipfile.ZipFile(file, "w") as new:
        for name, data in {**parts, "manifest.json": json.dumps(document).encode()}.items():
            new.writestr(name, data)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda document: document.update(fingerprint="0" * 32), "fingerprint and configuration"),
        (lambda document: document["config"].update(rate=2.0), "fingerprint and configuration"),
        (lambda document: document["config"]["encoder"].update(model="another"), "fingerprint and configuration"),
        (lambda document: document.update(generation="0" * 16), "generation and hashes"),
        (lambda document: document.update(missing=0), "number of frames"),
        (lambda document: document.update(frames=20, dimension=32), "vectors are not those"),
        (lambda document: document.update(timeline_hash="0" * 32), "timeline is not that"),
    ],
)
def test_an_export_that_contradicts_itself_is_refused(
    archive: Archive, change: Callable[[dict[str, Any]], None], reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "one.hybrid"
    export_index(archive, archive.commit(ONE, NewIndex(**some_index(1))), file)
    rewrite(file, lambda document: None)
    export = read_export(file)
    rewrite(file, change)
    with pytest.raises(IndexDamagedError, match=reason):
        read_export(file)
    altered = export.manifest.model_dump()
    change(altered)
    with pytest.raises(InputError, match=reason):
        archive.adopt(Manifest.model_validate(altered), timeline=export.timeline, vectors=export.vectors)


def test_a_timeline_of_another_length_is_refused(archive: Archive, tmp_path: Path) -> None:
    """Whose hash is right, as that of a program that writes indexes and goes wrong."""
    file = tmp_path / "one.hybrid"
    export_index(archive, archive.commit(ONE, NewIndex(**some_index(1))), file)
    export = read_export(file)
    shorter = timeline_to_bytes(some_timeline(39, 1))
    digest = timeline_hash(shorter)
    generation = generation_of(export.manifest.vectors_hash, digest)
    manifest = export.manifest.model_copy(update={"timeline_hash": digest, "generation": generation})
    with pytest.raises(InputError, match="number of frames"):
        archive.adopt(manifest, timeline=shorter, vectors=export.vectors)


def test_another_index_is_not_copied_over_unless_asked(archive: Archive, tmp_path: Path) -> None:
    manifest = archive.commit(ONE, NewIndex(**some_index(1)))
    with Archive.open(tmp_path / "target", backend="faiss") as target:
        newer = target.commit(ONE, NewIndex(**some_index(2)))
        with pytest.raises(IndexMismatchError, match="--replace"):
            copy_index(archive, target, manifest)
        assert target.verify(ONE) == newer
        assert copy_index(archive, target, manifest, replace=True)
        assert target.verify(ONE) == manifest


def test_an_archive_of_version_1_is_converted_whole_and_back(backend: str, tmp_path: Path) -> None:
    other: str = "lancedb" if backend == "faiss" else "faiss"
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
        manifest = archive.commit(ONE, NewIndex(**some_index(1)))
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


@pytest.fixture
def with_features(tmp_path: Path) -> Iterator[tuple[Archive, Manifest]]:
    """An index whose frames have features under two specs."""
    with Archive.open(tmp_path / "from", backend="faiss") as archive:
        manifest = archive.commit(ONE, NewIndex(**some_index(1)))
        for spec in (some_spec(), some_spec(mode="video")):
            archive.add_features(manifest, spec, some_items([3, 5, 8]))
        yield archive, manifest


def specs_of(archive: Archive) -> list[FeatureSpec]:
    """Of what features there are, every one of them sound."""
    lists = archive.feature_lists(archive.require(ONE))
    assert archive.verify_features(ONE) == 3 * len(lists)
    return [listed.spec for listed in lists]


def test_features_go_along_with_their_index(with_features: tuple[Archive, Manifest], tmp_path: Path) -> None:
    source, manifest = with_features
    (stranger, *_) = (source.folder / "videos" / ONE).glob("features-*.safetensors")
    other = stranger.with_name(f"features-{'0' * 16}-{stranger.name.split('-')[-1]}")
    other.write_bytes(stranger.read_bytes())  # of other frames, as a killed writer may leave it
    with Archive.open(tmp_path / "to") as target:
        assert copy_index(source, target, manifest)
        assert specs_of(target) == specs_of(source)
        assert not (target.folder / "videos" / ONE / other.name).exists()
        assert not copy_index(source, target, manifest)


@pytest.mark.parametrize("when", ["their lists are read", "their values are copied"])
def test_features_that_are_dropped_meanwhile_stay_behind(
    with_features: tuple[Archive, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    source, manifest = with_features

    def drop() -> None:
        with Archive.open(source.folder) as other:
            assert other.drop_features(ONE) > 0

    def dropped_before_reading(path: Path) -> bytes:
        if path.name.startswith("features-") and path.exists() and source.folder in path.parents:
            drop()
        return read_bytes(path)

    def dropped_before_copying(data: bytes, *, where: str) -> FeatureList:
        monkeypatch.setattr("indexes.maintenance.transfer.read_list", read_list)
        drop()
        return read_list(data, where=where)

    read_bytes = Path.read_bytes
    if when == "their lists are read":
        monkeypatch.setattr(Path, "read_bytes", dropped_before_reading)
    else:
        monkeypatch.setattr("indexes.maintenance.transfer.read_list", dropped_before_copying)
    with Archive.open(tmp_path / "to") as target:
        assert copy_index(source, target, manifest)
        assert specs_of(target) == specs_of(source) == []
        assert not list((target.folder / "videos" / ONE).glob("*features-*"))


def test_a_list_whose_values_are_lost_stays_behind(with_features: tuple[Archive, Manifest], tmp_path: Path) -> None:
    source, manifest = with_features
    lost, kept = source.feature_lists(manifest)
    (source.folder / "videos" / ONE / lost.values_name).unlink()
    with Archive.open(tmp_path / "to") as target:
        assert copy_index(source, target, manifest)
        assert specs_of(target) == [kept.spec]


@pytest.mark.parametrize("part", ["list", "values"])
def test_features_that_cannot_be_read_are_not_said_of_the_target(
    with_features: tuple[Archive, Manifest], tmp_path: Path, part: str
) -> None:
    source, manifest = with_features
    folder = source.folder / "videos" / ONE
    unreadable = folder / source.feature_lists(manifest)[0].values_name
    if part == "list":
        (unreadable, *_) = sorted(folder.glob("features-*.safetensors"))
    unreadable.unlink()
    unreadable.mkdir()
    with (
        Archive.open(tmp_path / "to") as target,
        pytest.raises(IndexDamagedError, match=f"^{unreadable}: cannot be read: Is a directory"),
    ):
        copy_index(source, target, manifest)


def test_features_that_cannot_be_written_are_said_of_the_target(
    with_features: tuple[Archive, Manifest], tmp_path: Path
) -> None:
    source, manifest = with_features
    values = source.feature_lists(manifest)[0].values_name
    with Archive.open(tmp_path / "to") as target:
        target.commit(ONE, NewIndex(**some_index(1)))
        (target.folder / "videos" / ONE / values).mkdir()
        with pytest.raises(ArchiveError, match=f"^archive {target.uri}: features cannot be written: Is a directory"):
            copy_index(source, target, manifest)
