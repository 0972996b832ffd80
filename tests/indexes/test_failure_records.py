"""Records of failures are parsed once, however many videos of a run look at them."""

from __future__ import annotations

from pathlib import Path

import pytest
from archive_samples import video_id

from indexes.format import failures as module
from indexes.format.failures import Attempt, Failure, failures, forget_failure, remember_failure

COUNT = 40


def record(number: int) -> Failure:
    attempt = Attempt(rate=1.0, policy=None, decoder=None, hybrid_version="0")
    return Failure(
        path=f"/videos/{number}.mp4",
        video_id=video_id(number),
        reason="it is cut",
        kind="VideoOpenError",
        lasting=True,
        attempt=attempt,
        attempts=1,
        failed_at="2026-12-01T00:00:00+00:00",
    )


def test_each_record_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = module.read_json
    parsed: list[Path] = []

    def counting(path: Path, **options: bool) -> object:
        parsed.append(path)
        return read(path, **options)

    monkeypatch.setattr(module, "read_json", counting)
    for number in range(COUNT):
        remember_failure(tmp_path, record(number))
    for number in range(COUNT):
        forget_failure(tmp_path, video_id(number), f"/videos/{number}.mp4")
    assert list(failures(tmp_path)) == []
    assert len(parsed) <= COUNT
