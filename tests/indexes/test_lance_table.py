"""What is particular to LanceDB: the table stays compact and indexed, and open readers live through that."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import lancedb
import numpy as np
import pytest
from archive_samples import unit_vectors

from hybrid.errors import IndexDamagedError
from indexes.format.layout import VectorKey
from indexes.format.manifest import Committed
from indexes.stores import lance_maintenance
from indexes.stores import lance_store as lance_table
from indexes.stores.lance_store import LanceStore
from indexes.stores.vectors import round_vectors


def key(number: int) -> VectorKey:
    return VectorKey(f"{number:032x}", "01")


def test_many_writes_leave_few_fragments_and_an_up_to_date_scalar_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lance_table, "FRAGMENTS_BEFORE_COMPACTION", 8)
    writer, reader = LanceStore(tmp_path), LanceStore(tmp_path)
    for number in range(20):
        writer.write(key(number), unit_vectors(50, 16, number))
        np.testing.assert_array_equal(
            reader.read(key(0)), unit_vectors(50, 16, 0).astype(np.float16).astype(np.float32)
        )
    table = lancedb.connect(tmp_path).open_table("frames_16")
    assert table.stats()["fragment_stats"]["num_fragments"] < 8
    (index,) = table.list_indices()
    assert index.columns == ["video_id"]
    statistics = table.index_stats(index.name)
    assert statistics.index_type == "BTREE"
    assert statistics.num_indexed_rows > 0
    assert statistics.num_unindexed_rows < 8 * 50
    plan = table.search().where("video_id = '00000003' AND generation = '01'").select(["row"]).explain_plan()
    assert "ScalarIndexQuery" in plan
    for number in range(20):
        assert writer.count(key(number)) == 50


def test_old_versions_go_once_no_reader_can_need_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance_table, "FRAGMENTS_BEFORE_COMPACTION", 4)
    store = LanceStore(tmp_path)
    versions = tmp_path / "frames_16.lance" / "_versions"
    for number in range(12):
        store.write(key(number), unit_vectors(5, 16, number))
    kept = len(list(versions.glob("*.manifest")))
    assert kept >= 12  # all are younger than the retention
    monkeypatch.setattr(lance_maintenance, "RETENTION", timedelta(milliseconds=1))
    for number in range(12, 18):
        store.write(key(number), unit_vectors(5, 16, number))
    assert len(list(versions.glob("*.manifest"))) < 8
    assert [store.count(key(number)) for number in range(18)] == [5] * 18


def test_crowded_versions_go_sooner_and_what_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance_table, "FRAGMENTS_BEFORE_COMPACTION", 4)
    monkeypatch.setattr(lance_maintenance, "CROWDED_VERSIONS", 10)
    monkeypatch.setattr(lance_maintenance, "CROWDED_RETENTION", timedelta(milliseconds=1))
    store, reader = LanceStore(tmp_path), LanceStore(tmp_path)
    versions = tmp_path / "frames_16.lance" / "_versions"
    for number in range(30):
        store.write(key(number), unit_vectors(5, 16, number))
        assert reader.count(key(number)) == 5
    assert len(list(versions.glob("*.manifest"))) < 20
    assert [reader.count(key(number)) for number in range(30)] == [5] * 30


def test_looking_videos_up_finds_what_a_pass_over_the_table_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LanceStore(tmp_path)
    keys = [key(number) for number in range(30)]
    known = {each: Committed(store.write(each, unit_vectors(5, 16, number)), 5) for number, each in enumerate(keys)}
    query, some = unit_vectors(1, 16, 99)[0], {each: known[each] for each in keys[3:15]}
    passes: list[int] = []
    batches = LanceStore._batches

    def counted(self: LanceStore, dimension: int) -> Iterator[object]:
        passes.append(dimension)
        return batches(self, dimension)

    monkeypatch.setattr(LanceStore, "_batches", counted)
    answers = []
    for rows_per_lookup, expected in ((0, 0), (10**9, 1)):
        monkeypatch.setattr(lance_table, "ROWS_PER_LOOKUP", rows_per_lookup)
        found = {each.key: each.hits for each in store.search_many(some, query, 3)}
        assert len(passes) == expected
        answers.append({each: hits.rows.tolist() for each, hits in found.items() if hits is not None})
    assert answers[0] == answers[1]
    assert set(answers[0]) == set(some)


def test_a_pass_over_a_table_whose_version_goes_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LanceStore(tmp_path)
    keys = [key(number) for number in range(12)]
    known = {each: Committed(store.write(each, unit_vectors(5, 16, number)), 5) for number, each in enumerate(keys)}
    query = unit_vectors(1, 16, 99)[0]
    expected = {found.key: found.hits for found in store.search_many(known, query, 3)}

    def break_off(*_: object) -> Iterator[object]:
        raise IndexDamagedError("LanceDB cannot read all videos: the file is gone")
        yield

    monkeypatch.setattr(LanceStore, "_batches", break_off)
    found = {each.key: each.hits for each in store.search_many(known, query, 3)}
    assert set(found) == set(keys)
    for each in keys:
        one, other = expected[each], found[each]
        assert one is not None
        assert other is not None
        assert one.rows.tolist() == other.rows.tolist()


def test_a_failed_compaction_loses_nothing_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lance_table, "FRAGMENTS_BEFORE_COMPACTION", 1)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no space left")

    monkeypatch.setattr("lancedb.table.LanceTable.optimize", fail)
    store = LanceStore(tmp_path)
    store.write(key(1), unit_vectors(5, 16, 1))
    assert store.count(key(1)) == 5
    assert "could not compact its table: no space left" in caplog.text


def test_a_table_whose_creation_was_killed_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "frames_16.lance" / "_versions").mkdir(parents=True)
    (tmp_path / "frames_16.lance" / "data").mkdir()
    store = LanceStore(tmp_path)
    assert store.count(key(1)) == 0
    assert list(store.keys()) == []
    store.write(key(1), unit_vectors(5, 16, 1))
    assert store.count(key(1)) == 5


def test_a_table_that_is_made_while_a_reader_looks_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has made its folder when the reader opens it, and its first version right after that."""
    (tmp_path / "frames_16.lance" / "_versions").mkdir(parents=True)
    is_unmade = LanceStore._is_unmade

    def made_meanwhile(self: LanceStore, name: str) -> bool:
        monkeypatch.setattr(LanceStore, "_is_unmade", is_unmade)
        LanceStore(tmp_path).write(key(1), unit_vectors(5, 16, 1))
        return is_unmade(self, name)

    monkeypatch.setattr(LanceStore, "_is_unmade", made_meanwhile)
    assert list(LanceStore(tmp_path).keys()) == [key(1)]


def changed_in_place(folder: Path, old: bytes, new: bytes) -> None:
    """Change bytes of the one data file that holds them."""
    for path in folder.glob("frames_*.lance/data/*"):
        data = path.read_bytes()
        if old in data:
            path.write_bytes(data.replace(old, new, 1))
            return
    pytest.fail("no file holds these bytes")


def test_rows_that_change_after_they_were_hashed_are_hashed_again(tmp_path: Path) -> None:
    store = LanceStore(tmp_path)
    vectors = {key(number): unit_vectors(5, 16, number) for number in range(3)}
    known = {each: Committed(store.write(each, some), 5) for each, some in vectors.items()}
    query = unit_vectors(1, 16, 99)[0]
    assert all(found.error is None for found in store.search_many(known, query, 3))
    stored = round_vectors(vectors[key(1)]).tobytes()
    changed_in_place(tmp_path, stored[:64], stored[:8] + bytes([stored[8] ^ 0x40]) + stored[9:64])
    errors = {found.key: found.error for found in store.search_many(known, query, 3)}
    assert isinstance(errors.pop(key(1)), IndexDamagedError)
    assert set(errors.values()) == {None}


def test_a_damaged_name_among_the_rows_costs_its_video_alone(tmp_path: Path) -> None:
    store = LanceStore(tmp_path)
    known = {key(number): Committed(store.write(key(number), unit_vectors(5, 16, number)), 5) for number in range(3)}
    name = key(1).video_id.encode()
    changed_in_place(tmp_path, name, b"v" + name[1:])
    store = LanceStore(tmp_path)
    errors = {found.key: found.error for found in store.search_many(known, unit_vectors(1, 16, 99)[0], 3)}
    assert isinstance(errors.pop(key(1)), IndexDamagedError)
    assert set(errors.values()) == {None}
    assert set(store.keys()) <= set(known)
