"""What the contract suites share: clips, and toys that are registered until a test ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from hybrid.registry import Registry
from tests.make_videos import session_clips
from tests.remote.conftest import s3_endpoint
from tests.scorers.conftest import frames, scorer_of, spec_of

__all__ = ["frames", "s3_endpoint", "scorer_of", "spec_of"]


@pytest.fixture(scope="session")
def clips(session_folder: Path) -> dict[str, Path]:
    """Small videos of every kind, damaged ones and files that are no videos; paths by name."""
    return session_clips(session_folder / "clips")


Toy = Callable[[Registry[Any], str, str], None]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    """``toy(registry, name, text)`` writes a file of that text and registers it until the test ends."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(registry: Registry[Any], name: str, text: str) -> None:
        monkeypatch.setattr(registry, "_modules", dict(registry._modules))
        (tmp_path / f"toy_{name}.py").write_text(dedent(text))
        registry.register(name, f"toy_{name}")

    yield add
    for name in [name for name in sys.modules if name.startswith("toy_")]:
        del sys.modules[name]
