"""Files that were damaged in every way that archives know: each ends as something, and the run goes on."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from bench.robustness.mutate import MUTATIONS, mutate_videos
from hybrid.engine import Engine
from hybrid.engine.batch.run import VideoOutcome, index_here
from hybrid.options.engine import EngineOptions
from hybrid.progress import NullProgress
from indexes.format.failures import failures
from indexes.open_archive import open_archive
from tests.engine.test_search import ColourEncoder
from tests.make_videos import encode, x264

COUNT = 4 * len(MUTATIONS)
SECONDS_EACH = 60.0
"""Of the time that this process computes, so that a busy machine makes no difference, and generous for a slow one."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Short videos in containers that fail in different ways."""
    folder = tmp_path_factory.mktemp("sources")
    return [
        encode(folder / "a.mp4", "libx264", options=x264(), gop=30, frames=90, container={"movflags": "faststart"}),
        encode(folder / "b.mkv", "libx264", options=x264(bf="3"), gop=25, frames=90),
        encode(folder / "c.ts", "libx264", options=x264(), gop=30, frames=90),
        encode(folder / "d.mp4", "mpeg4", options={"b": "200k"}, gop=15, frames=90),
    ]


class Listener:
    def __init__(self) -> None:
        self.ended: list[tuple[VideoOutcome, float]] = []

    def progress(self, worker: int) -> NullProgress:
        return NullProgress()

    def outcome(self, outcome: VideoOutcome) -> None:
        self.ended.append((outcome, time.process_time()))


def test_mutations_are_a_function_of_their_arguments(sources: list[Path], tmp_path: Path) -> None:
    one, two = (mutate_videos(sources, tmp_path / name, COUNT) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    other = mutate_videos(sources, tmp_path / "other", COUNT, seed=1)
    assert [path.read_bytes() for path in one] != [path.read_bytes() for path in other]
    unspoilt = {source.read_bytes() for source in sources}
    assert not unspoilt & {path.read_bytes() for path in one}


@pytest.mark.timeout(1200)
def test_every_bad_video_ends_and_the_good_ones_are_indexed(sources: list[Path], tmp_path: Path) -> None:
    bad = mutate_videos(sources, tmp_path / "bad", COUNT)
    # Good ones between them, so that it shows that the run went on.
    videos = [*bad[: COUNT // 2], sources[0], *bad[COUNT // 2 :], sources[1]]
    listener = Listener()
    with open_archive(tmp_path / "archive") as archive:
        engine = Engine(archive, EngineOptions(device="cpu"), encoder=ColourEncoder())
        started = time.process_time()
        summary = index_here(engine, videos, listener)
        assert summary.stopped_by is None
        assert [outcome.video for outcome in summary.outcomes] == [str(video) for video in videos]
        times = [started, *(ended for _, ended in listener.ended)]
        assert max(after - before for before, after in itertools.pairwise(times)) < SECONDS_EACH
        by_name = {Path(outcome.video).name: outcome for outcome in summary.outcomes}
        for source in sources[:2]:
            assert by_name[source.name].status == "done"
        for outcome in summary.outcomes:
            if outcome.status == "failed":
                assert outcome.reason
                assert "Traceback" not in outcome.reason
                assert "\n" not in outcome.reason
            else:
                assert outcome.result is not None
                archive.verify(outcome.result.video_id)
        for path in bad:
            if any(name in path.name for name in ("-text-", "-empty-", "-noise-", "-no_video_stream-")):
                assert by_name[path.name].status == "failed", path.name
        recorded = {record.path for record in failures(archive.folder)}
        # Two files may have the same bytes (nothing at all): they are one video, with one record.
        assert recorded <= {str(Path(outcome.video).absolute()) for outcome in summary.failed}
        again = index_here(engine, videos, Listener())
        assert {outcome.status for outcome in again.outcomes} == {"skipped", "failed"}
        assert [o.video for o in again.failed] == [o.video for o in summary.failed]
        assert all(outcome.remembered for outcome in again.failed)
