"""Dates as people and programs write them, and which videos were indexed since."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from archive_samples import some_index, video_id

from hybrid.errors import InputError
from indexes.archive.lookup import choose, read_date
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T12:00:00Z",
        "2026-03-01T12:00:00z",
        "2026-03-01 12:00Z",
        "2026-03-01T12:00:00+00:00",
        "2026-03-01T13:30+01:30",
        " 2026-03-01T12:00:00.000Z ",
    ],
)
def test_dates_with_a_zone(text: str) -> None:
    assert read_date(text) == NOON


def test_dates_without_one_are_local() -> None:
    assert read_date("2026-03-01").replace(tzinfo=None) == datetime(2026, 3, 1)
    assert read_date("2026-03-01 14:30").replace(tzinfo=None) == datetime(2026, 3, 1, 14, 30)


@pytest.mark.parametrize("text", ["", "Z", "yesterday", "2026-13-01", "2026-03-01T25:00", "1 March 2026"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write it like"):
        read_date(text)


def test_since(archive: Archive) -> None:
    written = {
        "2026-03-01T12:00:00+00:00": True,
        "2026-03-01T12:00:00Z": True,
        "2026-03-01T11:59:59Z": False,
        "2026-03-01T12:30:00": True,  # of another program, that names no zone
        "once upon a time": False,
    }
    manifest = archive.commit(video_id(1), NewIndex(**some_index(1)))
    manifests = [manifest.model_copy(update={"created_at": text}) for text in written]
    assert [found.created_at for found in choose(manifests, since=NOON)] == [
        text for text, is_new in written.items() if is_new
    ]
