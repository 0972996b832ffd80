"""The archive in quiet times: what goes in comes out, is replaced, removed, found and refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from archive_samples import some_config, some_index, unit_vectors, video_id

from hybrid.errors import (
    ArchiveError,
    IndexDamagedError,
    IndexMismatchError,
    InputError,
    MissingDependencyError,
    VideoNotIndexedError,
)
from hybrid.values import Timeline
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.manifest import IndexConfig
from indexes.format.timeline_file import timeline_to_bytes

ONE, TWO = video_id(1), video_id(2)


def same_timeline(one: Timeline, two: Timeline) -> bool:
    return timeline_to_bytes(one) == timeline_to_bytes(two)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_committed_comes_back(archive: Archive) -> None:
    index = some_index(1)
    written = archive.commit(ONE, NewIndex(**index, note="one packet was damaged"))
    with Archive.open(archive.folder, create=False) as reader:
        manifest = reader.require(ONE, index["config"])
        assert manifest == written
        assert reader.manifest(ONE) == written
        assert (manifest.frames, manifest.dimension, manifest.status) == (40, 16, "partial")
        assert (manifest.source, manifest.video, manifest.config) == (index["source"], index["video"], index["config"])
        assert manifest.missing == len(index["timeline"].missing) > 0
        assert manifest.note == "one packet was damaged"
        assert manifest.seconds == {"decode_and_embed": 1.5}
        timeline = reader.timeline(ONE)
        assert timeline.missing == index["timeline"].missing
        np.testing.assert_array_equal(timeline.pts_seconds, index["timeline"].pts_seconds)
        assert same_timeline(timeline, index["timeline"])
        np.testing.assert_array_equal(reader.read(ONE), index["vectors"].astype(np.float16).astype(np.float32))
        query = index["vectors"][17]
        assert reader.search(ONE, query, 3).rows[0] == 17
        assert len(reader.search(ONE, query, 1000)) == 40
        assert reader.verify(ONE) == written


def test_status_follows_from_missing_samples_unless_it_is_said(archive: Archive) -> None:
    index = some_index(1, count=5)
    assert index["timeline"].missing == ()
    assert archive.commit(ONE, NewIndex(**index)).status == "done"
    assert archive.commit(ONE, NewIndex(**index, status="partial", note="the file is cut")).status == "partial"


def test_an_index_is_replaced_and_nothing_of_the_old_one_stays(archive: Archive) -> None:
    archive.commit(TWO, NewIndex(**some_index(9)))
    old = archive.commit(ONE, NewIndex(**some_index(1)))
    new = archive.commit(ONE, NewIndex(**some_index(2, count=30, dimension=24)))  # another encoder
    assert old.generation != new.generation
    assert [key.generation for key in archive.store.keys(ONE)] == [new.generation]
    assert len(archive.timeline(ONE)) == 30
    assert archive.read(ONE).shape == (30, 24)
    assert archive.read(TWO).shape == (40, 16)
    kept = [name for name in files(archive.folder / "videos" / ONE) if "vectors" not in name]
    assert sorted(kept) == ["manifest.json", f"timeline-{new.generation}.safetensors"]


def test_a_manifest_holds_on_to_its_generation(archive: Archive) -> None:
    held = archive.commit(ONE, NewIndex(**some_index(1)))
    assert len(archive.timeline(held)) == 40
    archive.commit(ONE, NewIndex(**some_index(2, count=30)))
    for attempt in (lambda: archive.timeline(held), lambda: archive.search(held, unit_vectors(1, 16, 0)[0], 3)):
        with pytest.raises(VideoNotIndexedError, match="replaced or removed"):
            attempt()


def test_a_reader_that_meets_a_replacement_reads_the_new_index(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = archive.commit(ONE, NewIndex(**some_index(1)))
    new = archive.commit(ONE, NewIndex(**some_index(2, count=30)))
    reader = Archive.open(archive.folder)
    answers = [old, new]  # the first look at the manifest comes before the replacement
    monkeypatch.setattr(reader, "require", lambda _: answers.pop(0))
    assert reader.read(ONE).shape == (30, 16)
    assert answers == []


def test_nothing_to_do_only_for_the_same_configuration_and_complete_files(archive: Archive) -> None:
    config = some_config()
    assert archive.up_to_date(ONE, config) is None
    written = archive.commit(ONE, NewIndex(**some_index(1)))
    assert archive.up_to_date(ONE, config) == written
    assert archive.up_to_date(ONE, some_config(model="ViT-L-14/test")) is None
    assert archive.up_to_date(ONE, some_config(rate=2.0)) is None
    archive.store.remove(written.key)
    assert archive.up_to_date(ONE, config) is None
    archive.commit(ONE, NewIndex(**some_index(1)))
    assert archive.up_to_date(ONE, config) is not None
    (archive.folder / "videos" / ONE / f"timeline-{written.generation}.safetensors").unlink()
    assert archive.up_to_date(ONE, config) is None
    archive.commit(ONE, NewIndex(**some_index(1)))
    assert archive.verify(ONE).generation == written.generation


def test_removing(archive: Archive) -> None:
    archive.commit(ONE, NewIndex(**some_index(1)))
    archive.commit(TWO, NewIndex(**some_index(2)))
    archive.remove(ONE)
    archive.remove(ONE)
    assert archive.manifest(ONE) is None
    assert [manifest.video_id for manifest in archive.manifests()] == [TWO]
    assert list(archive.store.keys(ONE)) == []
    assert not (archive.folder / "videos" / ONE).exists()
    assert archive.verify(TWO)


def test_errors_name_the_command(archive: Archive) -> None:
    with pytest.raises(VideoNotIndexedError, match=f"hybrid index VIDEO --archive {archive.folder}"):
        archive.search(ONE, unit_vectors(1, 16, 0)[0], 1)
    archive.commit(ONE, NewIndex(**some_index(1)))
    with pytest.raises(IndexMismatchError, match=r"encoder.model: ViT-B-32/test -> ViT-L-14/test"):
        archive.require(ONE, some_config(model="ViT-L-14/test"))
    with pytest.raises(InputError, match=r"have 16 values: was it indexed with another encoder"):
        archive.search(ONE, unit_vectors(1, 24, 0)[0], 1)
    with pytest.raises(InputError, match="lower-case hexadecimal"):
        archive.manifest("../../etc")


def test_what_does_not_fit_is_refused_and_leaves_the_old_index(archive: Archive) -> None:
    written = archive.commit(ONE, NewIndex(**some_index(1)))
    with pytest.raises(InputError, match="39 vectors for 40 samples"):
        archive.commit(ONE, NewIndex(**{**some_index(2), "vectors": unit_vectors(39, 16, 0)}))
    assert archive.verify(ONE) == written


def test_a_full_disk_leaves_the_old_index_and_no_rubbish(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    written = archive.commit(ONE, NewIndex(**some_index(1)))
    before = files(archive.folder / "videos")

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("indexes.archive.writer.write_atomically", full)
    with pytest.raises(ArchiveError, match="No space left on device"):
        archive.commit(ONE, NewIndex(**some_index(2)))
    assert archive.verify(ONE) == written
    assert files(archive.folder / "videos") == before
    assert [key.generation for key in archive.store.keys(ONE)] == [written.generation]


def test_the_archive_can_be_moved(archive: Archive, tmp_path: Path) -> None:
    archive.commit(ONE, NewIndex(**some_index(1)))
    archive.close()
    shutil.move(archive.folder, tmp_path / "elsewhere")
    with Archive.open(tmp_path / "elsewhere", create=False) as moved:
        assert moved.verify(ONE).frames == 40
        assert moved.commit(TWO, NewIndex(**some_index(2))).frames == 40


def test_equal_content_gives_equal_bytes(tmp_path: Path, backend: str) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        with Archive.open(folder, backend=backend) as archive:
            if folder.name == "b":  # with another past
                archive.commit(ONE, NewIndex(**some_index(3)))
            archive.commit(ONE, NewIndex(**some_index(1)))
    names = [name for name in files(folders[0] / "videos") if "manifest" not in name]
    assert files(folders[0] / "videos") == files(folders[1] / "videos")
    assert len(names) == (2 if backend == "faiss" else 1)
    for name in names:
        assert (folders[0] / "videos" / name).read_bytes() == (folders[1] / "videos" / name).read_bytes()


def test_backends_give_the_same_hashes_and_generations(tmp_path: Path) -> None:
    written = []
    for backend in ("faiss", "lancedb"):
        with Archive.open(tmp_path / backend, backend=backend) as archive:
            written.append(archive.commit(ONE, NewIndex(**some_index(1))))
    assert written[0].vectors_hash == written[1].vectors_hash
    assert written[0].generation == written[1].generation


def test_fingerprints() -> None:
    base = some_config()
    shuffled = IndexConfig(encoder=dict(reversed(base.encoder.items())), rate=1, policy="exact", decoder="pyav")
    assert base.fingerprint == shuffled.fingerprint
    others = [some_config(model="x"), some_config(rate=1.5), base.model_copy(update={"decoder": "decord"})]
    assert len({config.fingerprint for config in [base, *others]}) == 4


def test_damaged_manifests_are_reported_and_passed_over(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2, 3):
        archive.commit(video_id(number), NewIndex(**some_index(number)))
    path = archive.folder / "videos" / TWO / "manifest.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (archive.folder / "videos" / "notes of somebody").mkdir()
    damaged: list[str] = []
    found = [m.video_id for m in archive.manifests(on_damage=lambda name, _: damaged.append(name))]
    assert (found, damaged) == ([ONE, video_id(3)], [TWO])
    assert len(list(archive.manifests())) == 2
    assert "not a manifest" in caplog.text
    with pytest.raises(IndexDamagedError, match="to mend it"):
        archive.search(TWO, unit_vectors(1, 16, 0)[0], 1)
    assert archive.up_to_date(TWO, some_config()) is None
    # Indexing again mends it, and tidies up what the damaged manifest may have spoken for.
    archive.commit(TWO, NewIndex(**some_index(4)))
    assert archive.verify(TWO)
    assert len(list(archive.store.keys(TWO))) == 1


def test_a_manifest_of_another_video_or_version_does_not_count(archive: Archive) -> None:
    archive.commit(ONE, NewIndex(**some_index(1)))
    path = archive.folder / "videos" / ONE / "manifest.json"
    data = path.read_text("utf-8")
    for changed in (data.replace(ONE, TWO), data.replace('"format_version": 1', '"format_version": 2'), "[]", ""):
        path.write_text(changed, "utf-8")
        with pytest.raises(IndexDamagedError):
            archive.manifest(ONE)


def test_importing_the_archive_and_listing_it_loads_no_backend(tmp_path: Path) -> None:
    for backend in ("faiss", "lancedb"):
        with Archive.open(tmp_path / backend, backend=backend) as archive:
            archive.commit(ONE, NewIndex(**some_index(1)))
        script = (
            "import sys; from indexes.archive.writer import Archive; "
            f"print(len(list(Archive.open({str(tmp_path / backend)!r}).manifests()))); "
            "print(sorted({'faiss', 'lancedb', 'pyarrow', 'torch'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == ["1", "[]"]


def test_a_backend_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    monkeypatch.delitem(sys.modules, "indexes.stores.lance_store", raising=False)
    archive = Archive.open(tmp_path / "archive", backend="lancedb")
    assert list(archive.manifests()) == []
    with pytest.raises(MissingDependencyError, match="pip install lancedb"):
        archive.commit(ONE, NewIndex(**some_index(1)))


def test_what_a_kill_left_in_the_cache_goes_with_the_next_writer(archive: Archive) -> None:
    cache = archive.folder / "cache" / "paths"
    cache.mkdir(parents=True)
    (cache / ".0badcafe.json.tmp-12345678").write_text('{"pa')
    (cache / "0badcafe.json").write_text("{}")
    archive.commit(video_id(1), NewIndex(**some_index(1)))
    assert [path.name for path in cache.iterdir()] == ["0badcafe.json"]
