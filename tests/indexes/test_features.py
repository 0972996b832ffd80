"""Stored features: what comes back, what is refused, and that nothing is lost or taken for something else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_samples import some_config, some_index, video_id
from feature_samples import GRID, some_item, some_items, some_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import ArchiveError, ArchiveLockedError, IndexDamagedError, InputError
from indexes.archive import feature_file as features_file
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.feature_list import FeatureItem, FeatureList, FeatureSpec, ItemLocation, read_list
from indexes.format.manifest import Manifest

ONE = video_id(1)
V1 = Path(__file__).resolve().parent.parent / "data" / "archives" / "v1"


@pytest.fixture
def indexed(archive: Archive) -> Manifest:
    """The manifest of a video of 40 frames, in the test's archive."""
    return archive.commit(ONE, NewIndex(**some_index(1)))


def stored_rows(archive: Archive, manifest: Manifest, spec: FeatureSpec | None = None) -> list[int]:
    stored = archive.features(manifest, spec or some_spec())
    return [] if stored is None else np.flatnonzero(stored.present).tolist()


def assert_items(archive: Archive, manifest: Manifest, wanted: dict[int, FeatureItem]) -> None:
    stored = archive.features(manifest, some_spec())
    assert stored is not None
    found = stored.read(np.array(sorted(wanted)))
    assert sorted(found) == sorted(wanted)
    for row, item in wanted.items():
        assert (found[row].grid, found[row].digest) == (item.grid, item.digest)
        np.testing.assert_array_equal(found[row].values, item.values)


def feature_files(archive: Archive) -> list[Path]:
    return sorted((archive.folder / "videos" / ONE).glob("features-*"))


def the_list(archive: Archive) -> Path:
    (path,) = (path for path in feature_files(archive) if path.suffix == ".safetensors")
    return path


def the_values(archive: Archive) -> Path:
    (path,) = (path for path in feature_files(archive) if path.suffix == ".values")
    return path


def test_what_is_added_comes_back_and_nothing_else(archive: Archive, indexed: Manifest) -> None:
    assert archive.features(indexed, some_spec()) is None
    assert archive.add_features(indexed, some_spec(), some_items([3, 1, 30])) == 3
    assert_items(archive, indexed, some_items([1, 3, 30]))
    assert stored_rows(archive, indexed) == [1, 3, 30]
    stored = archive.features(indexed, some_spec())
    assert stored is not None
    assert stored.read(np.array([0, 2, 39])) == {}
    assert archive.verify_features(ONE) == 3


def test_rows_are_added_one_call_after_another_by_one_archive_and_seen_by_another(
    archive: Archive, indexed: Manifest
) -> None:
    with Archive.open(archive.folder) as other:
        for number, rows in enumerate(([5, 6], [0], [39, 7, 8]), start=1):
            archive.add_features(indexed, some_spec(), some_items(rows))
            assert len(stored_rows(other, indexed)) == [2, 3, 6][number - 1]
        assert_items(other, indexed, some_items([0, 5, 6, 7, 8, 39]))
    assert len(feature_files(archive)) == 2


def test_a_row_that_is_stored_stays_as_it_is(archive: Archive, indexed: Manifest) -> None:
    archive.add_features(indexed, some_spec(), some_items([1, 2]))
    before = the_values(archive).read_bytes()
    assert archive.add_features(indexed, some_spec(), some_items([1, 2], seed=9)) == 0
    assert the_values(archive).read_bytes() == before
    assert_items(archive, indexed, some_items([1, 2]))


def test_frames_of_several_grids(archive: Archive, indexed: Manifest) -> None:
    items = {0: some_item(0), 1: some_item(1, (4, 1)), 2: some_item(2, (1, 1)), 3: some_item(3)}
    archive.add_features(indexed, some_spec(), items)
    assert_items(archive, indexed, items)


def test_an_item_of_another_size_is_refused_and_nothing_is_stored(archive: Archive, indexed: Manifest) -> None:
    wrong = FeatureItem(GRID, np.zeros(7, dtype=np.uint8), bytes(16))
    with pytest.raises(InputError, match="7 bytes"):
        archive.add_features(indexed, some_spec(), {0: some_item(0), 1: wrong})
    assert archive.features(indexed, some_spec()) is None
    with pytest.raises(InputError, match="the index has 40"):
        archive.add_features(indexed, some_spec(), some_items([40]))
    assert feature_files(archive) == []


def test_another_checkpoint_finds_nothing_and_both_lie_side_by_side(archive: Archive, indexed: Manifest) -> None:
    archive.add_features(indexed, some_spec(), some_items([1]))
    other = some_spec(weights="beef")
    assert archive.features(indexed, other) is None
    archive.add_features(indexed, other, some_items([2], seed=5))
    assert stored_rows(archive, indexed) == [1]
    assert stored_rows(archive, indexed, other) == [2]
    first, second = sorted(archive.feature_lists(indexed), key=lambda listed: listed.spec.identity["weights"])
    assert first.spec.differences(second.spec) == ["weights: 00ff -> beef"]
    assert archive.verify_features(ONE) == 2


def test_a_list_that_was_renamed_is_refused(archive: Archive, indexed: Manifest) -> None:
    archive.add_features(indexed, some_spec(), some_items([1]))
    other = some_spec(weights="beef")
    path = the_list(archive)
    path.rename(path.with_name(path.name.replace(some_spec().key, other.key)))
    with pytest.raises(IndexDamagedError, match="of other features than its name says"):
        archive.features(indexed, other)


@pytest.mark.parametrize("frames_change", [True, False])
def test_features_survive_another_encoder_and_go_with_the_frames(
    archive: Archive, indexed: Manifest, frames_change: bool
) -> None:
    archive.add_features(indexed, some_spec(), some_items([1, 2]))
    again: dict[str, Any] = {**some_index(2 if frames_change else 1), "config": some_config("ViT-L-14/test")}
    if not frames_change:
        again["vectors"] = some_index(3)["vectors"]
    new = archive.commit(ONE, NewIndex(**again))
    assert new.generation != indexed.generation
    assert stored_rows(archive, new) == ([] if frames_change else [1, 2])
    assert len(feature_files(archive)) == (0 if frames_change else 2)


def test_another_decoder_may_give_other_pixels_at_the_same_times(archive: Archive, indexed: Manifest) -> None:
    archive.add_features(indexed, some_spec(), some_items([1]))
    config = some_config().model_copy(update={"decoder": "decord"})
    new = archive.commit(ONE, NewIndex(**{**some_index(1), "config": config}))
    assert new.timeline_hash == indexed.timeline_hash
    assert archive.features(new, some_spec()) is None


def test_features_of_an_index_that_was_replaced_meanwhile_are_not_taken(archive: Archive, indexed: Manifest) -> None:
    archive.commit(ONE, NewIndex(**some_index(2)))
    assert archive.add_features(indexed, some_spec(), some_items([1])) == 0
    archive.remove(ONE)
    assert archive.add_features(indexed, some_spec(), some_items([1])) == 0
    assert not (archive.folder / "videos" / ONE).exists()


def test_removing_the_video_or_dropping_the_features(archive: Archive, indexed: Manifest) -> None:
    archive.add_features(indexed, some_spec(), some_items([1]))
    archive.add_features(indexed, some_spec(weights="beef"), some_items([1]))
    total = sum(path.stat().st_size for path in feature_files(archive))
    assert archive.drop_features(ONE) == total
    assert feature_files(archive) == []
    assert archive.features(indexed, some_spec()) is None
    assert archive.verify(ONE) == indexed
    assert archive.drop_features(ONE) == 0
    archive.add_features(indexed, some_spec(), some_items([1]))
    archive.remove(ONE)
    assert not (archive.folder / "videos" / ONE).exists()


def test_a_reader_that_has_them_open_keeps_what_it_has_when_they_are_dropped(
    archive: Archive, indexed: Manifest
) -> None:
    archive.add_features(indexed, some_spec(), some_items([1]))
    with Archive.open(archive.folder) as reader:
        stored = reader.features(indexed, some_spec())
        assert stored is not None
        archive.drop_features(ONE)
        assert stored.read(np.array([1]))[1].digest == some_item(1).digest
        assert reader.features(indexed, some_spec()) is None


@pytest.mark.parametrize("then", [[], [1, 2]])
def test_features_that_are_dropped_while_they_are_opened_are_not_damaged(
    archive: Archive, indexed: Manifest, monkeypatch: pytest.MonkeyPatch, then: list[int]
) -> None:
    """A writer drops them, and perhaps stores others, between a reader's look at the list and at the values."""
    archive.add_features(indexed, some_spec(), some_items([0, 1]))
    read = features_file.read_list

    def dropped_meanwhile(data: bytes, *, where: str) -> FeatureList:
        monkeypatch.setattr(features_file, "read_list", read)
        with Archive.open(archive.folder) as writer:
            writer.drop_features(indexed.video_id)
            if then:
                writer.add_features(indexed, some_spec(), some_items(then))
        return read(data, where=where)

    with Archive.open(archive.folder) as reader:
        monkeypatch.setattr(features_file, "read_list", dropped_meanwhile)
        stored = reader.features(indexed, some_spec())
        assert (stored is None) == (not then)
        assert stored is None or sorted(stored.read(np.arange(40))) == then
    monkeypatch.setattr(features_file, "read_list", dropped_meanwhile)
    assert archive.verify_features(indexed.video_id) == len(then)


def test_every_flipped_byte_of_the_values_is_found(archive: Archive, indexed: Manifest) -> None:
    archive.add_features(indexed, some_spec(), some_items([0, 1, 2]))
    path = the_values(archive)
    whole, size = path.read_bytes(), len(some_item(0).values)
    for place in range(0, len(whole), 7):
        data = bytearray(whole)
        data[place] ^= 0x10
        path.write_bytes(data)
        with Archive.open(archive.folder) as opened:
            stored = opened.features(indexed, some_spec())
            assert stored is not None
            assert sorted(stored.read(np.array([0, 1, 2]))) == [row for row in range(3) if row != place // size]
            with pytest.raises(IndexDamagedError, match="1 of 3 features are damaged"):
                opened.verify_features(ONE)


def test_a_byte_that_is_flipped_after_it_was_read_is_found_too(archive: Archive, indexed: Manifest) -> None:
    archive.add_features(indexed, some_spec(), some_items([0, 1]))
    assert_items(archive, indexed, some_items([0, 1]))
    data = bytearray(the_values(archive).read_bytes())
    data[3] ^= 1
    the_values(archive).write_bytes(data)
    stored = archive.features(indexed, some_spec())
    assert stored is not None
    assert sorted(stored.read(np.array([0, 1]))) == [1]


def test_every_flipped_byte_of_the_list_is_found_or_harmless(archive: Archive, indexed: Manifest) -> None:
    archive.add_features(indexed, some_spec(), some_items([0, 1, 2]))
    path = the_list(archive)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 5):
        data = bytearray(whole)
        data[place] ^= 0x04
        path.write_bytes(data)
        try:
            stored = archive.features(indexed, some_spec())
        except IndexDamagedError:
            refused += 1
            continue
        assert stored is not None
        for row, item in stored.read(np.array([0, 1, 2])).items():
            np.testing.assert_array_equal(item.values, some_item(row).values)
    assert refused > 0.9 * len(range(0, len(whole), 5))


@pytest.mark.parametrize("kept", [0, 1, 50, 100])
def test_values_that_were_cut_are_missed_and_can_be_made_anew(archive: Archive, indexed: Manifest, kept: int) -> None:
    archive.add_features(indexed, some_spec(), some_items([0, 1, 2]))
    values = the_values(archive)
    values.write_bytes(values.read_bytes()[:kept])
    stored = archive.features(indexed, some_spec())
    assert stored is not None
    sound = kept // len(some_item(0).values)
    assert sorted(stored.read(np.array([0, 1, 2]))) == list(range(sound))
    lost = set(range(sound, 3))
    assert archive.add_features(indexed, some_spec(), some_items([0, 1, 2]), damaged=lost) == len(lost)
    assert_items(archive, indexed, some_items([0, 1, 2]))


def test_a_file_that_is_cut_while_it_is_open_does_not_kill_the_reader(archive: Archive, indexed: Manifest) -> None:
    archive.add_features(indexed, some_spec(), some_items(list(range(40))))
    stored = archive.features(indexed, some_spec())
    assert stored is not None
    with the_values(archive).open("r+b") as file:
        file.truncate(10)
    assert stored.read(np.arange(40)) == {}


@pytest.mark.parametrize("gone", ["list", "values"])
def test_half_of_the_files_gone_is_noticed_and_can_be_made_anew(archive: Archive, indexed: Manifest, gone: str) -> None:
    archive.add_features(indexed, some_spec(), some_items([0, 1]))
    (the_list(archive) if gone == "list" else the_values(archive)).unlink()
    if gone == "list":
        assert archive.features(indexed, some_spec()) is None
    else:
        with pytest.raises(IndexDamagedError, match="cannot be read"):
            archive.features(indexed, some_spec())
    archive.add_features(indexed, some_spec(), some_items([0, 1]), damaged={0, 1})
    assert_items(archive, indexed, some_items([0, 1]))
    assert len(feature_files(archive)) == 2


def test_a_damaged_list_is_replaced_by_the_next_writer(archive: Archive, indexed: Manifest) -> None:
    archive.add_features(indexed, some_spec(), some_items([0, 1]))
    the_list(archive).write_bytes(b"nonsense")
    assert archive.feature_lists(indexed) == []
    archive.add_features(indexed, some_spec(), some_items([1]))
    assert stored_rows(archive, indexed) == [1]
    assert_items(archive, indexed, some_items([1]))
    assert len(feature_files(archive)) == 2


def test_a_full_disk_leaves_what_was_there(
    archive: Archive, indexed: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add_features(indexed, some_spec(), some_items([0]))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("indexes.archive.feature_file.write_atomically", full)
        with pytest.raises(ArchiveError, match="No space left"):
            archive.add_features(indexed, some_spec(), some_items([1, 2]))
    assert stored_rows(archive, indexed) == [0]
    archive.add_features(indexed, some_spec(), some_items([2]))
    assert_items(archive, indexed, some_items([0, 2]))


def test_one_writer_at_a_time(archive: Archive, indexed: Manifest) -> None:
    with Archive.open(archive.folder) as other, other.lock(ONE):
        with pytest.raises(ArchiveLockedError):
            archive.add_features(indexed, some_spec(), some_items([0]))


def test_a_staged_file_becomes_part_of_the_index_it_was_made_with(archive: Archive) -> None:
    index = some_index(4)
    with archive.lock(ONE), archive.stage_features(ONE, some_spec()) as staged:
        for start in range(0, 40, 16):
            staged.add([some_item(row) for row in range(start, min(40, start + 16))])
        manifest = archive.commit(ONE, NewIndex(**index), features=staged)
    assert_items(archive, manifest, some_items(list(range(40))))
    assert len(feature_files(archive)) == 2
    assert list((archive.folder / "pending").iterdir()) == []


def test_a_staged_file_that_is_not_committed_leaves_nothing(archive: Archive, indexed: Manifest) -> None:
    def give_up() -> None:
        with archive.stage_features(ONE, some_spec()) as staged:
            staged.add([some_item(0)])
            assert [path.name for path in (archive.folder / "videos" / ONE).glob(".features*")]
            raise RuntimeError("the decoder gave up")

    with pytest.raises(RuntimeError, match="decoder"):
        give_up()
    assert list((archive.folder / "videos" / ONE).glob(".*")) == []
    assert archive.verify(ONE) == indexed
    with archive.stage_features(video_id(2), some_spec()) as staged:
        staged.add([some_item(0)])
    assert not (archive.folder / "videos" / video_id(2)).exists()


def test_a_staged_file_of_too_few_frames_is_refused(archive: Archive) -> None:
    with archive.stage_features(ONE, some_spec()) as staged:
        staged.add([some_item(0)])
        with pytest.raises(InputError, match="features of 1 frames for 40"):
            archive.commit(ONE, NewIndex(**some_index(1)), features=staged)
    assert archive.manifest(ONE) is None


def test_a_new_staged_file_replaces_what_was_stored(archive: Archive, indexed: Manifest) -> None:
    archive.add_features(indexed, some_spec(), some_items([0, 1], seed=7))
    with archive.stage_features(ONE, some_spec()) as staged:
        staged.add([some_item(row) for row in range(40)])
        manifest = archive.commit(ONE, NewIndex(**some_index(1)), features=staged)
    assert_items(archive, manifest, some_items(list(range(40))))
    assert len(feature_files(archive)) == 2


def test_archives_of_the_first_version_take_features(tmp_path: Path) -> None:
    for backend in ("faiss", "lancedb"):
        folder = shutil.copytree(V1 / backend, tmp_path / backend)
        with Archive.open(folder, create=False) as archive:
            for manifest in list(archive.manifests()):
                assert archive.features(manifest, some_spec()) is None
                assert archive.feature_lists(manifest) == []
                archive.add_features(manifest, some_spec(), some_items([0]))
                assert_items(archive, manifest, some_items([0]))
                assert archive.verify(manifest.video_id) == manifest


def test_specs_differ_by_every_part() -> None:
    specs = [
        some_spec(),
        some_spec(weights="1"),
        some_spec(more="x"),
        FeatureSpec(some_spec().identity, "float32", 8),
        FeatureSpec(some_spec().identity, "bfloat16", 9),
    ]
    assert len({spec.key for spec in specs}) == len(specs)
    assert some_spec().key == FeatureSpec(dict(reversed(some_spec().identity.items())), "bfloat16", 8).key
    assert specs[3].item_bytes((2, 2)) == 2 * 2 * 8 * 4
    with pytest.raises(InputError, match="int8"):
        FeatureSpec({}, "int8", 8)
    with pytest.raises(InputError, match="width"):
        FeatureSpec({}, "float32", 0)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.integers(0, 29),
        st.tuples(
            st.integers(0, 2**40), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.binary(min_size=16, max_size=16)
        ),
    )
)
def test_a_list_comes_back_from_its_bytes(given_places: dict[int, tuple[int, tuple[int, int], bytes]]) -> None:
    places = {row: ItemLocation(*place) for row, place in given_places.items()}
    empty = FeatureList.empty(some_spec(), frames="0f", rows=30, values_name="features-x.values")
    listed = empty.added(places, size_bytes=123)
    found = read_list(listed.to_bytes(), where="here")
    assert found.to_bytes() == listed.to_bytes()
    assert {row: found.location(row) for row in np.flatnonzero(found.present).tolist()} == places
