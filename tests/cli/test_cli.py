"""The command line on a real clip: what it prints, saves, and how it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from hybrid.answers import Answer
from hybrid.cli.app import app
from hybrid.cli.display.text import clock
from hybrid.cli.input.paths import find_videos
from hybrid.errors import HybridError, InputError
from indexes.open_archive import open_archive
from tests.demo_clip import DEMO_SCENES, write_demo_clip
from tests.forked import run_command


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", DEMO_SCENES[:2])


@pytest.fixture
def models(clip_folder: Path, gens_folder: Path) -> dict[str, list[str]]:
    encoder = ["--encoder", f"local-dir:{clip_folder}", "--device", "cpu"]
    return {"index": encoder, "ask": [*encoder, "--sampler", str(gens_folder)]}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def json_lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_selector_is_asked_for_with_its_options(clip: Path, models: dict[str, list[str]], tmp_path: Path) -> None:
    given = ["ask", clip, "a red circle", "--archive", tmp_path / "archive", "--frames", "4", "--no-fine", "--json"]
    for wrong, said in (
        (["--select", "aks:dept=3"], "its options are: depth=5, threshold=0.8, least_std=-100.0, faithful"),
        (["--select", "aks:depth=many"], "depth is 'many'; it must be a whole number"),
        (["--select", "aks", "--look-for", "a dog"], "take --select tifre, or leave out --look-for"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            run(*given, *wrong, *models["ask"])
    assert not (tmp_path / "archive").exists()
    chosen = {}
    for text in ("aks:depth=0,threshold=0.2", "aks:depth=2", "aks:depth=2,faithful", "focus:seed=5"):
        answer = Answer.from_dict(json.loads(run(*given, "--select", text, *models["ask"]).stdout))
        chosen[text] = ([frame.ordinal for frame in answer.frames], answer.stages[-1].details)
    assert chosen["aks:depth=0,threshold=0.2"][0] != chosen["aks:depth=2"][0] == chosen["aks:depth=2,faithful"][0]
    assert chosen["aks:depth=0,threshold=0.2"][1]["options"] == {"depth": 0, "threshold": 0.2, "least_std": -100.0}
    assert [details["faithful"] for _, details in list(chosen.values())[1:3]] == [False, True]
    assert chosen["focus:seed=5"][1]["seed"] == 5
    looked = run(*given, "--select", "tifre", "--look-for", "a red circle", "--look-for", "a dog", *models["ask"])
    assert json.loads(looked.stdout)["stages"][-1]["details"]["prompts"] == ["a red circle", "a dog"]


def test_index_then_ask(clip: Path, models: dict[str, list[str]], tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    indexed = run("index", clip, "--archive", archive, *models["index"])
    assert indexed.exit_code == 0
    # 6 s and 5 s at 29.97 frames a second are 180 and 150 frames, which last 11.011 s.
    assert "12 frames" in indexed.stdout
    assert "1 of 1 video indexed or up to date" in indexed.stdout
    again = run("index", clip, "--archive", archive, *models["index"])
    assert "unchanged" in again.stdout
    asked = run("ask", clip, "a red circle", "--archive", archive, "--frames", "3", *models["ask"])
    assert asked.exit_code == 0
    assert "spans" in asked.stdout
    assert "coarse" in asked.stdout
    assert all(character.isprintable() or character == "\n" for character in asked.stdout)


def test_ask_prints_one_json_document_and_saves_frames_and_sheet(
    clip: Path, models: dict[str, list[str]], tmp_path: Path
) -> None:
    frames, sheet = tmp_path / "frames", tmp_path / "out" / "sheet.png"
    options = ["--archive", tmp_path / "archive", "--frames", "4", "--no-fine", "--json"]
    asked = run("ask", clip, "a red circle", *options, "--frames-dir", frames, "--sheet", sheet, *models["ask"])
    assert asked.exit_code == 0
    document = json.loads(asked.stdout)
    assert {"question", "video", "spans", "frames", "stages"} <= set(document)
    answer = Answer.from_json(asked.stdout)
    assert len(answer.frames) == 4
    saved = sorted(frames.glob("*.png"))
    assert [place.name for place in saved] == [f"frame_{f.ordinal:06d}_{f.seconds:.3f}s.png" for f in answer.frames]
    assert Answer.from_json((frames / "answer.json").read_text()) == answer
    with Image.open(saved[0]) as image:
        assert image.size == (320, 240)
    with Image.open(sheet) as image:
        assert image.width > 4 * 240
        assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 50


def test_index_as_json_lines(clip: Path, models: dict[str, list[str]], tmp_path: Path) -> None:
    events = json_lines(run("index", clip, "--archive", tmp_path / "a", "--json", *models["index"]))
    names = [event["event"] for event in events if event["event"] not in ("progress", "stage")]
    assert names == ["start", "done", "summary"]
    stages = [event for event in events if event["event"] == "stage"]
    assert [event["stage"] for event in stages] == ["hash", "load", "open", "embed", "write"]
    done = next(event for event in events if event["event"] == "done")
    assert done["outcome"] == "indexed"
    assert done["frames"] == stages[-1]["frames_total"]


def test_one_bad_video_does_not_end_the_run(clip: Path, models: dict[str, list[str]], tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a-bad.mp4").write_text("This is no video.")
    (folder / "b-good.mp4").write_bytes(clip.read_bytes())
    options = ["--archive", tmp_path / "archive", "--json", "--workers", "0", *models["index"]]
    result = run("index", folder, *options)
    assert result.exit_code == 1
    events = {str(event["event"]): event for event in json_lines(result)}
    assert "a-bad.mp4" in str(events["failed"]["error"])
    assert events["done"]["outcome"] == "indexed"
    assert events["summary"]["failed"] == [str(folder / "a-bad.mp4")]


def test_strict_fails_where_a_stage_falls_back(clip: Path, models: dict[str, list[str]], tmp_path: Path) -> None:
    options = ["--archive", tmp_path / "archive", *models["index"], "--sampler", tmp_path / "nothing"]
    plain = run("ask", clip, "a red circle", *options)
    assert plain.exit_code == 0
    assert "fallback" in plain.stdout
    strict = run_command(["ask", clip, "a?", "--strict", *options], tmp_path)
    assert strict.returncode == 1
    assert strict.stderr.startswith("hybrid: strict: the stage 'gens' failed")


def test_an_error_is_one_line_with_an_exit_code_and_a_traceback_on_request(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from hybrid.cli import main; main()", "ask", str(tmp_path / "x.mp4"), "a?"]
    command += ["--archive", str(tmp_path / "archive"), "--preset", "no-such-preset"]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    assert plain.returncode == 2
    assert plain.stderr.strip().splitlines() == [
        "hybrid: there is no preset 'no-such-preset'; legal are gens-3b, gens-aria, tiny"
    ]
    debug = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HYBRID_DEBUG": "1"}
    )
    assert debug.returncode != 0
    assert "Traceback" in debug.stderr


def test_an_answer_is_printed_even_if_its_pictures_cannot_be_saved(
    clip: Path, models: dict[str, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    options = ["--archive", str(tmp_path / "archive"), "--no-fine", "--json", *models["ask"]]
    for where in (["--sheet", str(tmp_path / "file" / "sheet.png")], ["--frames-dir", str(tmp_path / "file" / "a")]):
        done = run_command(["ask", clip, "a?", *options, *where], tmp_path)
        assert done.returncode == 1
        assert Answer.from_json(done.stdout).frames
        assert done.stderr.startswith("hybrid: the ")
        assert "Traceback" not in done.stderr


def test_a_folder_of_pictures_that_is_a_file_is_refused_before_any_work(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run_command(
        ["ask", clip, "a?", "--archive", tmp_path / "archive", "--frames-dir", tmp_path / "file"], tmp_path
    )
    assert done.returncode == 2
    assert "--frames-dir" in done.stderr
    assert "which is a file" in done.stderr
    assert not (tmp_path / "archive").exists()


def test_a_sheet_of_a_video_that_is_gone_has_empty_cells(
    clip: Path, models: dict[str, list[str]], tmp_path: Path
) -> None:
    video, sheet = tmp_path / "video.mp4", tmp_path / "sheet.png"
    video.write_bytes(clip.read_bytes())
    archive = tmp_path / "archive"
    run("index", video, "--archive", archive, *models["index"])
    video.unlink()
    asked = run(
        "ask", video, "a?", "--archive", archive, "--no-fine", "--frames", "2", "--sheet", sheet, *models["ask"]
    )
    assert asked.exit_code == 0
    assert "spans" in asked.stdout
    with Image.open(sheet) as image:
        assert image.height > 100


def test_frames_of_an_earlier_answer_are_replaced_and_nothing_else(
    clip: Path, models: dict[str, list[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "mine.png").touch()
    for count in ("5", "3"):
        options = ["--archive", tmp_path / "archive", "--no-fine", "--frames", count, "--frames-dir", folder]
        run("ask", clip, "a red circle", *options, *models["ask"])
    assert len(list(folder.glob("frame_*.png"))) == 3
    assert (folder / "mine.png").exists()


def test_a_video_that_another_process_holds_does_not_end_the_run(
    clip: Path, models: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, archive = tmp_path / "videos", tmp_path / "archive"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    write_demo_clip(folder / "b.mp4", DEMO_SCENES[:1])
    monkeypatch.setattr("hybrid.engine.batch.run.WAIT_SECONDS", 0.2)
    with open_archive(archive) as other, other.lock(other.identify(folder / "a.mp4")):
        result = run("index", folder, "--archive", archive, "--json", "--workers", "0", *models["index"])
    assert result.exit_code == 1
    events = {str(event["event"]): event for event in json_lines(result)}
    assert events["failed"]["video"] == str(folder / "a.mp4")
    assert events["done"]["video"] == str(folder / "b.mp4")


def test_an_interrupted_run_says_how_to_go_on(
    clip: Path, models: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hybrid.engine.index.updating.index_video", interrupted)
    result = run("index", clip, "--archive", tmp_path / "archive", *models["index"])
    assert result.exit_code == 130
    assert "the same command goes on" in result.output


def test_names_with_markup_are_shown_as_they_are(clip: Path, models: dict[str, list[str]], tmp_path: Path) -> None:
    video = tmp_path / "talk [bold] [x].mp4"
    video.write_bytes(clip.read_bytes())
    archive = tmp_path / "archive"
    run("index", video, "--archive", archive, *models["index"])
    for arguments in (["list"], ["ask", video, "a [red] circle", "--no-fine", *models["ask"]]):
        shown = run(*arguments, "--archive", archive).stdout.replace("\n", "").replace("│", "").replace(" ", "")
        assert "[bold][x].mp4" in shown


def test_list(clip: Path, models: dict[str, list[str]], tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    run("index", clip, "--archive", archive, *models["index"])
    (line,) = json_lines(run("list", "--archive", archive, "--json"))
    assert line["source"] == {"path": str(clip), "size_bytes": clip.stat().st_size, "also": []}
    assert "1/s" in run("list", "--archive", archive).stdout
    (manifest,) = archive.rglob("manifest.json")
    manifest.write_text("{")
    damaged = run("list", "--archive", archive)
    assert damaged.exit_code == 1
    assert "damaged" in damaged.output


def test_list_of_what_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(HybridError):
        run("list", "--archive", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_doctor_finds_a_whole_installation_and_a_broken_one(
    clip_folder: Path, gens_folder: Path, tmp_path: Path
) -> None:
    options = ["--encoder", f"local-dir:{clip_folder}", "--device", "cpu", "--json"]
    whole = run("doctor", *options, "--sampler", gens_folder)
    checks = {str(check["name"]): check for check in json_lines(whole)}
    assert whole.exit_code == 0, checks
    assert set(checks) >= {"decode (pyav)", "embed", "index (faiss)", "index (lancedb)", "generate"}
    assert {check["state"] for check in checks.values()} <= {"ok", "missing"}
    broken = run("doctor", *options, "--sampler", tmp_path / "nothing")
    assert broken.exit_code == 1
    generate = next(check for check in json_lines(broken) if check["name"] == "generate")
    assert generate["state"] == "broken"
    assert "--no-fine" in str(generate["remedy"])


def test_paths_on_the_command_line(tmp_path: Path) -> None:
    names = ("b.mp4", "a.mkv", "cover1.jpg", "notes.txt", "deep/c.webm", "frames/sec000.png", "scans/page1.tif")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [place.relative_to(tmp_path).as_posix() for place in find_videos([str(tmp_path)]).videos]
    # A picture beside folders with videos does not make the whole a folder of images.
    assert found == ["a.mkv", "b.mp4", "deep/c.webm", "frames", "scans"]
    assert find_videos([str(tmp_path / "notes.txt")]).videos == [tmp_path / "notes.txt"]
    assert find_videos([str(tmp_path / "*.mp4"), str(tmp_path / "b.mp4")]).videos == [tmp_path / "b.mp4"]
    for nothing in ("*.avi", "nothing.mp4"):
        with pytest.raises(InputError, match="nothing"):
            find_videos([str(tmp_path / nothing)])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "._a.mp4").write_bytes(b"macOS keeps the file's own colours here")
    with pytest.raises(InputError, match="no video below"):
        find_videos([str(tmp_path / "empty")])
    (tmp_path / "frames" / "._clip.mp4").touch()
    assert find_videos([str(tmp_path / "frames")]).videos == [tmp_path / "frames"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00.00"), (5.973, "0:05.97"), (59.999, "1:00.00"), (3723.25, "1:02:03.25")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
