"""What the robustness benchmarks make and say."""

from __future__ import annotations

from pathlib import Path

from bench.robustness.bad_videos import describe
from bench.robustness.small_videos import write_small_videos
from bench.robustness.watch import Spent
from hybrid.engine.batch.run import RunSummary, VideoOutcome
from hybrid.frames.registry import open_source
from hybrid.values import Sampling
from indexes.archive.content_id import identify
from tests.demo_clip import DEMO_SCENES, write_demo_clip


def test_small_videos_are_all_different_and_start_elsewhere(tmp_path: Path) -> None:
    film = write_demo_clip(tmp_path / "film.mp4", DEMO_SCENES[:1])
    made = write_small_videos([film], tmp_path / "videos", 3, seconds=1.0)
    assert len({identify(video) for video in made}) == 3
    for video in made:
        with open_source(video, Sampling()) as source:
            assert 0.9 <= (source.info.duration_seconds or 0.0) <= 2.1
            assert sum(len(batch) for batch in source.read()) >= 1
    written = made[0].stat()
    assert write_small_videos([film], tmp_path / "videos", 3, seconds=1.0) == made
    assert made[0].stat() == written


def test_figures_of_a_run_leave_out_the_loading_of_the_models() -> None:
    outcomes = tuple(VideoOutcome(f"/v/{n}.mp4", "failed", float(n), reason="cut: bad") for n in (9, 1, 2, 3))
    spent = {outcome.video: Spent(outcome.seconds / 10, 100.0, 100.0 + outcome.seconds) for outcome in outcomes}
    summary = RunSummary(outcomes, 4, 15.0)
    result = describe(summary, summary, spent)
    assert result["ended"] == 4
    assert result["without_reason"] == 0
    assert result["per_file"]["wall_seconds"] == {"median": 2.0, "p95": 2.0, "most": 3.0, "which": "3.mp4"}
    assert result["per_file"]["cpu_seconds"]["most"] == 0.3
    assert result["per_file"]["worker_grew_mb"]["most"] == 3.0
    assert result["reasons"] == {"bad": 4}
