"""What the benchmark of archives rests on: vectors that lie as they should, results that are kept, drawn curves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.latency.archive.report import draw, merged
from bench.latency.video_vectors import VideoWorld


@pytest.mark.parametrize(("shake", "low", "high"), [(0.04, 0.99, 1.0), (0.3, 0.90, 0.97)])
def test_made_up_videos_behave_like_videos(shake: float, low: float, high: float) -> None:
    world = VideoWorld(128, shake=shake)
    vectors = world.video(3, 500)
    np.testing.assert_array_equal(vectors, VideoWorld(128, shake=shake).video(3, 500))
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    neighbours = np.einsum("ij,ij->i", vectors[1:], vectors[:-1])
    assert low < np.median(neighbours) < high
    assert 25 < np.count_nonzero(neighbours < 0.85) < 120  # scenes of nine frames on average
    assert np.median(vectors[:50] @ world.video(4, 50).T) < 0.85 < np.median(neighbours)


@pytest.mark.parametrize("content", [0.45, 0.0])
def test_made_up_questions_are_far_from_every_frame(content: float) -> None:
    world = VideoWorld(128, content=content)
    vectors = world.video(3, 500)
    query = world.query(1, vectors[100])
    assert float((vectors @ query).max()) < 0.5
    assert (int((vectors @ query).argmax()) - 100 in range(-20, 20)) == (content > 0)


def archive_result(videos: int, recall: float) -> dict[str, object]:
    points = [("default", recall, 12.0), ("units 64", recall - 0.1, 30.0), ("units 512", recall, 9.0)]
    return {
        "videos": videos,
        "frames_each": 10,
        "dimension": 8,
        "shake": 0.04,
        "content": 0.45,
        "backend": "faiss",
        "curve": [{"search": name, "recall": share, "times_faster_cpu": times} for name, share, times in points],
    }


def test_results_of_other_archives_are_kept_and_all_are_drawn(tmp_path: Path) -> None:
    out = tmp_path / "archive.json"
    for videos, recall in ((5, 0.9), (20, 0.95), (5, 0.99)):
        found = merged({"benchmark": "archive", "archives": [archive_result(videos, recall)]}, out)
        out.write_text(json.dumps(found))
    archives = json.loads(out.read_text())["archives"]
    assert [(archive["videos"], archive["curve"][0]["recall"]) for archive in archives] == [(5, 0.99), (20, 0.95)]
    draw(archives, tmp_path / "archive.png")
    with Image.open(tmp_path / "archive.png") as picture:
        colours = picture.convert("RGB").getcolors(100_000)
    assert colours is not None
    drawn = {colour for _, colour in colours}
    assert {(0x1B, 0x6C, 0xA8), (0xC8, 0x55, 0x3D)} <= drawn
