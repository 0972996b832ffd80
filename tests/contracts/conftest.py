"""The clips that the tests of the decoders read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.make_videos import session_clips
from tests.remote.conftest import s3_endpoint
from tests.scorers.conftest import frames, scorer_of, spec_of

__all__ = ["frames", "s3_endpoint", "scorer_of", "spec_of"]


@pytest.fixture(scope="session")
def clips(session_folder: Path) -> dict[str, Path]:
    """Small videos of every kind, damaged ones and files that are no videos; paths by name."""
    return session_clips(session_folder / "clips")
