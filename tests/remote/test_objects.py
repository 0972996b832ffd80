"""Objects in the store, and the conditional writes that exclusion rests on."""

from __future__ import annotations

import pytest

from hybrid.errors import ArchiveError, InputError
from indexes.format.location import check_uri, is_remote
from indexes.remote.object_store import Objects


def test_written_and_read(uri: str) -> None:
    objects = Objects(uri)
    assert objects.is_empty()
    assert objects.get("a/b.json") is None
    version = objects.put("a/b.json", b"one")
    found = objects.get("a/b.json")
    assert found is not None
    assert (found.data, found.version) == (b"one", version)
    objects.put("a/c", b"four")
    objects.put("ab/d", b"")
    listed = objects.list("a")
    assert {name: info.size_bytes for name, info in listed.items()} == {"a/b.json": 3, "a/c": 4}
    assert listed["a/b.json"].version == version
    assert set(objects.list()) == {"a/b.json", "a/c", "ab/d"}
    objects.delete("a/b.json")
    objects.delete("a/b.json")
    assert objects.get("a/b.json") is None
    assert not objects.is_empty()


def test_made_only_once(uri: str) -> None:
    objects = Objects(uri)
    version = objects.create("lock", b"mine")
    assert version is not None
    assert objects.create("lock", b"yours") is None
    # A write that is sent again because its answer was lost is not another writer's.
    assert objects.create("lock", b"mine") == version


def test_replaced_only_as_it_was(uri: str) -> None:
    objects = Objects(uri)
    first = objects.put("lock", b"1")
    second = objects.replace("lock", b"2", first)
    assert second not in (None, first)
    assert objects.replace("lock", b"3", first) is None
    found = objects.get("lock")
    assert found is not None
    assert found.data == b"2"
    assert objects.replace("gone", b"1", first) is None
    assert objects.get("gone") is None


def test_conditions_are_tried_out(uri: str) -> None:
    objects = Objects(uri)
    assert objects.obeys_conditions()
    assert objects.is_empty()


def test_no_such_bucket(uri: str) -> None:
    objects = Objects("s3://there-is-none/videos")
    with pytest.raises(ArchiveError, match="no such bucket"):
        objects.put("a", b"1")
    with pytest.raises(ArchiveError, match="no such bucket"):
        objects.get("a")


def test_places() -> None:
    assert is_remote("s3://bucket/a")
    assert not is_remote("folder/s3")
    assert check_uri("s3://bucket/a/b/") == check_uri("s3://bucket/a/b") == "s3://bucket/a/b"
    for wrong in ("s3://", "s3:/bucket/a", "gs://bucket/a", "s3://bucket/a?b", "s3://bucket/a/../b", "s3://B/a"):
        with pytest.raises(InputError, match="legal are a folder, or s3://"):
            check_uri(wrong)
    with pytest.raises(InputError, match="a bucket of 3 to 63 small letters, digits, dots and hyphens"):
        check_uri("s3://bk/videos")
