"""Archives of both backends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from indexes.archive.writer import Archive
from indexes.format.keys import BACKENDS, BackendName


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> BackendName:
    """Each backend in turn."""
    name: BackendName = request.param
    return name


@pytest.fixture
def archive(tmp_path: Path, backend: BackendName) -> Iterator[Archive]:
    """An empty archive."""
    with Archive.open(tmp_path / "archive", backend=backend) as opened:
        yield opened
