"""A disk that is really full ends a run: no further video is decoded, whatever the archive holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.engine import Engine
from hybrid.engine.batch.run import VideoOutcome, index_here
from hybrid.engine.batch.worker_process import EngineRecipe
from hybrid.engine.batch.workers import index_in_workers
from hybrid.errors import ArchiveUnwritableError
from hybrid.options.engine import EngineOptions
from hybrid.progress import NullProgress
from indexes.format.failures import failures
from indexes.open_archive import open_archive
from indexes.stores.registry import STORES
from tests.demo_clip import write_many_clips
from tests.full_disk import fill, small_disk

VIDEOS = 4


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_many_clips(tmp_path_factory.mktemp("clips"), VIDEOS).iterdir())


class Stages(NullProgress):
    """Remembers the videos that were embedded, and so decoded."""

    def __init__(self) -> None:
        self.embedded: list[str] = []
        self._video = ""

    def progress(self, worker: int) -> Stages:
        return self

    def outcome(self, outcome: VideoOutcome) -> None:
        pass

    def start(self, video: str) -> None:
        self._video = video

    def stage(self, name: str) -> None:
        if name == "embed":
            self.embedded.append(self._video)


@pytest.mark.parametrize("free_bytes", [0, 8192])
@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("backend", STORES.names)
def test_a_full_disk_ends_the_run(
    tmp_path: Path,
    clips: list[Path],
    clip_folder: Path,
    gens_folder: Path,
    backend: str,
    features: bool,
    free_bytes: int,
) -> None:
    given = {"encoder": f"local-dir:{clip_folder}", "sampler": str(gens_folder), "device": "cpu"}
    with (
        small_disk(tmp_path / "disk") as disk,
        Engine.open(disk / "archive", backend=backend, **given) as engine,  # type: ignore[arg-type]
    ):
        assert index_here(engine, clips[:1], Stages(), features=features).counts()["done"] == 1
        ballast, stages = fill(disk, free_bytes=free_bytes), Stages()
        summary = index_here(engine, clips, stages, features=features)
        assert type(summary.stopped_by) is ArchiveUnwritableError
        assert "No space left on device" in str(summary.stopped_by)
        assert [outcome.status for outcome in summary.outcomes] == ["skipped"]
        assert stages.embedded in ([], [str(clips[1])])
        assert list(failures(engine.archive.folder)) == []
        ballast.unlink()
        assert index_here(engine, clips, Stages(), features=features).counts()["done"] == VIDEOS - 1


@pytest.mark.parametrize("backend", STORES.names)
def test_features_that_no_longer_fit_end_the_run_too(
    tmp_path: Path, clips: list[Path], clip_folder: Path, gens_folder: Path, backend: str
) -> None:
    """Of videos whose index is there already."""
    given = {"encoder": f"local-dir:{clip_folder}", "sampler": str(gens_folder), "device": "cpu"}
    with (
        small_disk(tmp_path / "disk") as disk,
        Engine.open(disk / "archive", backend=backend, **given) as engine,  # type: ignore[arg-type]
    ):
        assert index_here(engine, clips, Stages(), features=False).counts()["done"] == VIDEOS
        ballast = fill(disk)
        summary = index_here(engine, clips, Stages(), features=True)
        assert type(summary.stopped_by) is ArchiveUnwritableError
        assert summary.outcomes == ()
        ballast.unlink()
        assert index_here(engine, clips, Stages(), features=True).counts()["skipped"] == VIDEOS


def test_a_full_disk_ends_the_run_of_two_workers(
    tmp_path: Path, clips: list[Path], clip_folder: Path, gens_folder: Path
) -> None:
    settings = EngineOptions(encoder=f"local-dir:{clip_folder}", sampler=str(gens_folder), device="cpu")
    with small_disk(tmp_path / "disk") as disk:
        open_archive(disk / "archive", backend="lancedb").close()
        fill(disk)
        recipe, stages = EngineRecipe(str(disk / "archive"), settings, features=True), Stages()
        summary = index_in_workers(recipe, clips, stages, workers=2)
        assert type(summary.stopped_by) is ArchiveUnwritableError
        assert summary.outcomes == ()
        assert len(stages.embedded) <= 2
