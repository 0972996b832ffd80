"""Archives of both backends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from indexes.archive.writer import Archive
from indexes.stores.registry import STORES


@pytest.fixture(params=STORES.names)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn."""
    name: str = request.param
    return name


@pytest.fixture
def archive(tmp_path: Path, backend: str) -> Iterator[Archive]:
    """An empty archive."""
    with Archive.open(tmp_path / "archive", backend=backend) as opened:
        yield opened
