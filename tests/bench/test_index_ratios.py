"""The ratios that the decoding benchmark reports, on made-up times."""

from __future__ import annotations

from bench.latency.index import LONG_RUNS, SHORT_RUNS, TARGETS, _ratios
from bench.latency.videos import CLIPS


def times(cpu: float, wall: float) -> dict[str, float]:
    return {"cpu_seconds": cpu, "wall_seconds": wall}


def test_every_target_is_compared_with_something() -> None:
    results = {clip.name: {run.label: times(1.0, 1.0) for run in SHORT_RUNS} for clip in CLIPS}
    results["long"] = {run.label: times(1.0, 1.0) for run in LONG_RUNS}
    reported = {(ratio["video"], ratio["what"]) for ratio in _ratios(results, "long") if ratio["target"]}
    assert set(TARGETS) <= reported


def test_a_ratio_is_how_much_less_time_ours_takes() -> None:
    results = {"long": {run.label: times(8.0, 4.0) for run in LONG_RUNS}}
    ours = next(run.label for run in LONG_RUNS if run.method == "exact" and run.consumer_seconds)
    results["long"][ours] = times(2.0, 2.0)
    ratio = next(ratio for ratio in _ratios(results, "long") if ratio["against"].startswith("aks"))
    assert (ratio["what"], ratio["cpu"], ratio["wall"], ratio["target"]) == (ours, 4.0, 2.0, 2.5)
