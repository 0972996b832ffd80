"""A false id in the cache, however it came there, is found before an index is stored under it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.engine import Engine
from hybrid.errors import VideoError
from hybrid.storage.atomic import write_atomically
from indexes.archive import content_id as identity
from indexes.archive.content_id import content_id
from tests.demo_clip import DEMO_SCENES, write_demo_clip


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine.open(tmp_path / "archive", preset="tiny", device="cpu")


def test_nothing_is_stored_under_a_false_id(engine: Engine, tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    write_demo_clip(video, [replace(DEMO_SCENES[0], seconds=2)])
    with engine:
        false = "0" * 32
        cache = identity._cache(engine.archive._layout.known_paths)
        entry = cache._document(str(video), identity._signature(video), false)
        write_atomically(cache._entry(str(video)), json.dumps(entry).encode())
        assert engine.archive.identify(video) == false
        with pytest.raises(VideoError, match="run the same command again"):
            engine.index(video)
        assert list(engine.archive.manifests()) == []
        assert engine.index(video).video_id == content_id(video)
