"""The approximate index on the command line: ``index`` makes it, ``search`` uses it, ``stats`` measures it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hybrid.cli.app import app
from hybrid.engine.index.ann import SAMPLE_QUESTIONS
from indexes.maintenance.build_ann import update_approximate
from indexes.maintenance.recall import store_queries
from indexes.open_archive import open_archive
from tests.engine.test_approximate_search import NoEncoder, commit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with open_archive(tmp_path / "archive") as archive:
        for number in range(3):
            commit(archive, number)
        update_approximate(archive, from_frames=1, segment_frames=1)
    return tmp_path / "archive"


def stats(folder: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["stats", "--archive", str(folder), *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_stats_say_what_is_known_of_the_recall(folder: Path) -> None:
    told = " ".join(stats(folder).split())
    assert "whole-archive search: approximate" in told
    assert "no sample questions are stored" in told
    with open_archive(folder) as archive:
        vectors = NoEncoder().encode_text("a red car").vector[None]
        store_queries(archive, archive.require(f"{0:032x}"), vectors)
    told = " ".join(stats(folder).split())
    assert "of the best 256 frames it finds 100.0 % (least 100.0 %, 1 sample question)" in told
    (recall,) = json.loads(stats(folder, "--json"))["approximate"]
    assert recall["recall"] == 1.0
    assert recall["covered_frames"] == 360


def test_index_says_why_nothing_is_in_it(clip_folder: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    dice = np.random.default_rng(0)
    for number in range(20):
        Image.fromarray(dice.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(frames / f"{number:03d}.png")
    options = ["--archive", str(tmp_path / "archive"), "--encoder", f"local-dir:{clip_folder}", "--device", "cpu"]

    def told(*more: str) -> str:
        wanted = ["index", str(frames), "--workers", "0", *options, *more]
        result = CliRunner().invoke(app, wanted, catch_exceptions=False)
        assert result.exit_code == 0
        return " ".join(result.stdout.split())

    assert "approximate" not in told()
    assert "approximate index: nothing was made, it has fewer frames" in told("--approximate-from", "21")
    # Pictures of an untrained encoder are all alike: one unit each 16 frames.
    assert "no frames are in it: 20 frames are too few" in told("--approximate-from", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexes.ann.segmentation._CUT_COSINE", 2.0)
        assert "videos wait until they have 65536 frames together; now they have 20" in told("--approximate-from", "1")
    assert "approximate" not in told()


def test_index_makes_it_with_sample_questions_and_search_uses_it(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    dice = np.random.default_rng(0)
    for number in range(30):
        Image.fromarray(dice.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(frames / f"{number:03d}.png")
    monkeypatch.setattr("indexes.maintenance.build_ann.SEGMENT_FRAMES", 10)
    monkeypatch.setattr("indexes.ann.segmentation._CUT_COSINE", 2.0)  # pictures of an untrained encoder are all alike
    options = ["--archive", str(tmp_path / "archive"), "--encoder", f"local-dir:{clip_folder}", "--device", "cpu"]
    told = CliRunner().invoke(
        app, ["index", str(frames), "--workers", "0", "--approximate-from", "20", *options], catch_exceptions=False
    )
    assert told.exit_code == 0
    assert "approximate index: it holds 30 of 30 frames" in " ".join(told.stdout.split())
    (recall,) = json.loads(stats(tmp_path / "archive", "--json"))["approximate"]
    assert recall["queries"] == len(SAMPLE_QUESTIONS)
    assert recall["units"] == 30
    for exact, stages in ((True, ["index", "coarse", "gens"]), (False, ["index", "approximate", "coarse", "gens"])):
        wanted = ["search", "noise", "--json", *(["--exact"] if exact else []), *options]
        found = json.loads(CliRunner().invoke(app, wanted, catch_exceptions=False).stdout)
        assert [stage["name"] for stage in found["stages"]] == stages
    again = CliRunner().invoke(
        app, ["index", str(frames), "--workers", "0", "--json", *options], catch_exceptions=False
    )
    events = [json.loads(line) for line in again.stdout.splitlines()]
    (update,) = [event for event in events if event["event"] == "approximate"]
    assert (update["segments_added"], update["covered_frames"]) == (0, 30)
