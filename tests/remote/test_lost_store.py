"""An object store that goes away during a run: the run ends with that, instead of failing video after video."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.engine import Engine
from hybrid.engine.batch.run import VideoOutcome, index_here
from hybrid.errors import ArchiveUnreachableError
from hybrid.options.engine import EngineOptions
from indexes.format.failures import failures
from indexes.open_archive import open_archive
from indexes.remote import patience
from tests.demo_clip import write_many_clips
from tests.engine.test_run import Listener
from tests.engine.test_search import ColourEncoder
from tests.remote.conftest import Machine, credentials, make_bucket, start_server


def test_the_run_ends(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = sorted(write_many_clips(tmp_path / "clips", 3).iterdir())
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 1.0)
    with start_server() as server:
        assert server.stdout is not None
        endpoint = server.stdout.readline().strip()
        for name, value in credentials(endpoint).items():
            monkeypatch.setenv(name, value)
        make_bucket(endpoint, "lost")

        class Killer(Listener):
            def outcome(self, outcome: VideoOutcome) -> None:
                super().outcome(outcome)
                server.kill()
                server.wait()

        try:
            with Engine(
                open_archive("s3://lost/videos"), EngineOptions(device="cpu"), encoder=ColourEncoder()
            ) as engine:
                summary = index_here(engine, clips, Killer())
                folder = engine.archive.folder
        finally:
            server.kill()
    assert [outcome.status for outcome in summary.outcomes] == ["done"]
    assert isinstance(summary.stopped_by, ArchiveUnreachableError)
    assert "s3://lost/videos" in str(summary.stopped_by)
    assert list(failures(folder)) == []
