"""Archives that version 1 of the format wrote must open for ever (tests/data/archives/make_v1.py made them)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xxhash
from archive_samples import some_index, video_id

from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive

ARCHIVES = Path(__file__).resolve().parent.parent / "data" / "archives"
V1 = ARCHIVES / "v1"
EXPECTED = json.loads((V1 / "expected.json").read_text())


FORMS = ["v1", "v1-checksum"]
"""Of version 1: the first, and the one whose manifests also hold a checksum that is quick to compute."""


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_answers(archive: Archive) -> None:
    for identity, expected in EXPECTED.items():
        manifest = archive.verify(identity)
        assert manifest.frames == len(expected["rows"])
        assert manifest.config.encoder["model"] == f"test-{manifest.dimension}"
        assert (manifest.missing, manifest.status, manifest.note) == (1, "partial", "1 of the samples is missing")
        hits = archive.search(identity, np.array(expected["query"], dtype=np.float32), 1000)
        assert hits.rows[:2].tolist() == [1, 2]
        assert hits.rows.tolist() == expected["rows"]
        np.testing.assert_allclose(hits.similarities, expected["similarities"], rtol=0, atol=1e-6)
        timeline = archive.timeline(identity)
        assert timeline.pts_seconds.tolist() == expected["pts_seconds"]
        assert [gap.ordinal for gap in timeline.missing] == [manifest.frames - 1]


@pytest.mark.parametrize("form", FORMS)
def test_version_1_opens_and_answers_and_reading_changes_nothing(tmp_path: Path, backend: str, form: str) -> None:
    folder = shutil.copytree(ARCHIVES / form / backend, tmp_path / "archive")
    before = bytes_below(folder)
    with Archive.open(folder, create=False) as archive:
        assert archive.backend == backend
        assert sorted(manifest.video_id for manifest in archive.manifests()) == sorted(EXPECTED)
        assert_answers(archive)
    assert bytes_below(folder) == before == bytes_below(ARCHIVES / form / backend)


@pytest.mark.parametrize("form", FORMS)
def test_version_1_can_be_written_to(tmp_path: Path, backend: str, form: str) -> None:
    folder = shutil.copytree(ARCHIVES / form / backend, tmp_path / "archive")
    with Archive.open(folder) as archive:
        archive.commit(video_id(5), NewIndex(**some_index(5, dimension=8)))
        archive.commit(video_id(6), NewIndex(**some_index(6, dimension=12)))
        assert_answers(archive)
        replaced = next(iter(EXPECTED))
        archive.commit(replaced, NewIndex(**some_index(7, dimension=8)))
        assert len(list(archive.store.keys(replaced))) == 1
        for manifest in archive.manifests():
            archive.verify(manifest.video_id)


def test_the_checksum_is_what_the_format_says(backend: str) -> None:
    with Archive.open(ARCHIVES / "v1-checksum" / backend, create=False) as archive:
        for manifest in archive.manifests():
            stored = archive.read(manifest).astype("<f2").tobytes()
            line = f"float16 {manifest.frames} {manifest.dimension}\n".encode()
            assert manifest.vectors_checksum == f"xxh3:{xxhash.xxh3_128_hexdigest(line + stored)}"


def test_todays_faiss_vectors_and_timelines_are_version_1s_byte_by_byte(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    with Archive.open(V1 / "faiss", create=False) as old, Archive.open(tmp_path / "new", backend="faiss") as new:
        for manifest in old.manifests():
            written = new.commit(
                manifest.video_id,
                NewIndex(
                    timeline=old.timeline(manifest),
                    vectors=old.read(manifest),
                    config=manifest.config,
                    source=manifest.source,
                    video=manifest.video,
                ),
            )
            assert written.fingerprint == manifest.fingerprint
            assert written.generation == manifest.generation
    for name, data in bytes_below(V1 / "faiss" / "videos").items():
        if not name.endswith("manifest.json"):
            assert (tmp_path / "new" / "videos" / name).read_bytes() == data
