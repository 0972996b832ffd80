"""What the command line says is true, fits a terminal, and can be typed again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hybrid.answers import SearchResult
from hybrid.cli.app import app
from hybrid.cli.input.paths import check_one_video
from hybrid.demo import DemoQuestion
from hybrid.engine import Engine
from hybrid.errors import ArchiveFormatError, InputError, ModelLoadError, VideoNotIndexedError, VideoOpenError
from hybrid.presets import PRESETS
from indexes.maintenance.build_ann import update_approximate
from indexes.open_archive import open_archive
from tests.demo_clip import DEMO_SCENES, write_demo_clip
from tests.engine.test_approximate_search import commit


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_clip(tmp_path_factory.mktemp("a folder with blanks") / "clip.mp4", DEMO_SCENES[:2])


@pytest.fixture(scope="module")
def tiny_archive(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the tiny preset; tests only read it."""
    folder = tmp_path_factory.mktemp("tiny") / "archive"
    with Engine.open(folder, preset="tiny", device="cpu") as engine:
        engine.index(clip)
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_commands_of_the_demo_can_be_typed_again(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = DemoQuestion("When is the red circle's ground visible?", ((0.0, 6.0),))
    monkeypatch.setattr("hybrid.demo.demo_video", lambda: clip)
    monkeypatch.setattr("hybrid.demo.demo_questions", lambda: (question,))
    shown = run("demo", "--out", tmp_path / "the demo")
    commands = [shlex.split(line[2:]) for line in shown.stdout.splitlines() if line.startswith("$ ")]
    assert [command[:2] for command in commands] == [["hybrid", "index"], ["hybrid", "ask"]]
    sheet = tmp_path / "the demo" / "sheet-1.png"
    sheet.unlink()
    index, ask = (run(*command[1:]) for command in commands)
    assert (index.exit_code, ask.exit_code) == (0, 0)
    assert "unchanged" in index.stdout
    assert question.text in ask.stdout
    assert sheet.is_file()


def test_asking_about_a_video_that_is_not_there_makes_no_archive(tmp_path: Path, clip: Path) -> None:
    archive = tmp_path / "archive"
    with pytest.raises(VideoOpenError, match=r"none\.mp4: there is no such file or folder, and no archive .*archive"):
        run("ask", tmp_path / "none.mp4", "a?", "--archive", archive)
    with pytest.raises(InputError, match="frames is 0"):
        run("ask", clip, "a?", "--archive", archive, "--frames", "0")
    with pytest.raises(InputError, match="the question is empty"):
        run("ask", clip, " ", "--archive", archive)
    assert not archive.exists()
    archive.mkdir()
    (archive / "notes.txt").write_text("something else")
    with pytest.raises(ArchiveFormatError):
        run("ask", tmp_path / "none.mp4", "a?", "--archive", archive)


def test_a_video_that_only_the_archive_knows_can_still_be_asked_about(clip: Path, tiny_archive: Path) -> None:
    with open_archive(tiny_archive) as archive:
        (manifest,) = archive.manifests()
    options: list[str | Path] = ["--archive", tiny_archive, "--preset", "tiny", "--no-fine", "--device", "cpu"]
    assert run("ask", manifest.video_id, "a red circle", *options).exit_code == 0


def test_list_gives_a_path_whole_however_narrow_the_terminal(
    clip: Path, tiny_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    title, path, facts = run("list", "--archive", tiny_archive).stdout.splitlines()
    assert title == f"{tiny_archive} (faiss)"
    assert path == str(clip)
    assert facts.split("  ")[2:] == ["0:11.01", "12 frames", "1/s exact", "clip", "done"]


def test_only_verbs_that_make_an_archive_say_so() -> None:
    for verb, makes in (("index", True), ("ask", True), ("import", True), ("search", False), ("list", False)):
        told = " ".join(run(verb, "--help").stdout.replace("│", " ").split())
        assert ("made if it is not there" in told) == makes, verb
        assert ("must be there" in told) != makes, verb


def test_stats_of_an_approximate_index_without_a_frame(tmp_path: Path) -> None:
    with open_archive(tmp_path / "archive") as archive:
        commit(archive, 0)
        update_approximate(archive, from_frames=1, segment_frames=10**6)
    told = " ".join(run("stats", "--archive", tmp_path / "archive").stdout.split())
    assert "it covers no frames yet, so there is nothing to measure" in told
    assert "sample questions" not in told


def test_the_tiny_preset_says_what_it_is_and_a_search_what_ran(tiny_archive: Path) -> None:
    description = PRESETS["tiny"].description
    assert "untrained" not in description
    assert "coloured shapes" in description
    options: list[str | Path] = [
        "--archive",
        tiny_archive,
        "--preset",
        "tiny",
        "--fine",
        "1",
        "--device",
        "cpu",
        "--json",
    ]
    result = SearchResult.from_json(run("search", "When is the red circle visible?", *options).stdout)
    (answer,) = [found.answer for found in result.videos if found.answer is not None]
    ran = next(stage for stage in answer.stages if stage.name == "gens")
    assert ran.ran
    assert result.stages[-1].model == ran.model == PRESETS["tiny"].sampler


def test_a_search_shows_what_gens_chose_as_ask_does(tiny_archive: Path, clip: Path) -> None:
    question = "When is the red circle visible?"
    common: list[str | Path] = ["--archive", tiny_archive, "--preset", "tiny", "--device", "cpu", "--frames", "3"]
    asked, found = run("ask", clip, question, *common), run("search", question, "--fine", "1", *common)

    def rows(shown: Result) -> list[list[str]]:
        """The cells of the tables of spans and frames."""
        lines = [line.strip() for line in shown.stdout.partition("stages")[0].splitlines()]
        return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]

    assert len(rows(asked)) > 3  # three frames and a span
    assert rows(found) == rows(asked)
    without = run("search", question, "--archive", tiny_archive, "--preset", "tiny", "--device", "cpu")
    assert rows(without) == []
    assert "most similar: " in without.stdout


def test_a_search_has_the_windows_of_a_question(tiny_archive: Path) -> None:
    common = ["--archive", tiny_archive, "--preset", "tiny", "--fine", "1", "--device", "cpu", "--json"]

    def read(*window: str) -> object:
        result = SearchResult.from_json(run("search", "When is the red circle visible?", *common, *window).stdout)
        (answer,) = [found.answer for found in result.videos if found.answer is not None]
        (gens,) = [stage for stage in answer.stages if stage.name == "gens"]
        return gens.candidates_in

    assert read("--window", "context", "--window-frames", "8", "--context", "2") == 8
    assert read("--window", "segments", "--window-frames", "8", "--segments", "2") in range(10, 17)
    with pytest.raises(InputError, match="scattered, context"):
        read("--window", "some")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("ask V a? --context 4", "--window context"),
        ("ask V a? --window 64 --window-frames 32", "--window is 64 and --window-frames 32"),
        ("ask V a? --no-fine --stream", "--stream is for GenS, and --no-fine leaves it out"),
        ("ask V a? --no-fine --constrained", "--constrained is for GenS"),
        ("ask V a? --no-fine --window 64", "--window"),
        ("ask V a? --no-fine --prompt P", "--prompt is 'P'.*leave out --no-fine, or leave out --prompt"),
        ("ask V a? --no-fine --loading 4bit", "--loading is '4bit'"),
        ("ask V a? --no-fine --select aks --scores clip --loading 4bit", "--loading is '4bit'"),
        ("ask V a? --no-fine --no-features", "--no-features"),
        ("ask V a? -q b? --frames-dir F", "--frames-dir is for a single question"),
        ("ask V a? --out O --sheet S", "without --questions and --out"),
        ("search a? --frames 5", "--fine 3"),
        ("search a? --window context", "--fine 3"),
        ("search a? --sampler S", "--sampler is 'S', which is for GenS"),
        ("search a? --prompt S", "--prompt is 'S', which is for GenS"),
        ("search a? --fine 1 --segments 2", "--window segments"),
        ("index V --loading 4bit", "add --features or --sampler"),
        ("index V --prompt P", "--prompt is 'P'"),
        ("index V --no-features --prompt P", "--prompt is 'P'.*leave out --no-features"),
        ("index V --no-features --sampler S --loading 4bit", "--loading is '4bit'"),
        ("remove V --even-if-folders-are-missing", "is for --gone"),
    ],
)
def test_options_without_effect_are_refused_before_anything_is_made(command: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        run(*command.split(), "--archive", tmp_path / "archive")
    assert not (tmp_path / "archive").exists()


def test_an_explicit_no_leaves_gens_out_whatever_else_names_it(clip: Path, tiny_archive: Path) -> None:
    options = ["--archive", tiny_archive, "--preset", "tiny", "--sampler", "none", "--device", "cpu"]
    shown = run("ask", clip, "a red circle", "--no-fine", *options)
    assert shown.exit_code == 0
    assert "fallback" not in shown.stdout
    assert run("index", clip, "--no-features", *options).exit_code == 0


def test_a_copy_of_a_failed_file_is_told_by_its_own_name(tmp_path: Path) -> None:
    first, second = tmp_path / "notes.txt", tmp_path / "copy.mp4"
    for place in (first, second):
        place.write_text("no video")
    shown = run("index", first, second, "--archive", tmp_path / "archive", "--preset", "tiny", "--workers", "0")
    assert shown.exit_code == 1
    assert f"failed   {second} has the content of {first}, which failed: {first} is not a video" in shown.stderr
    again = run("index", first, "--archive", tmp_path / "archive", "--preset", "tiny")
    assert f"failed   {first} is not a video" in again.stderr


@pytest.mark.parametrize("command", ["verify V", "export V F", "features drop V", "remove V"])
def test_a_video_that_is_not_indexed_is_told_by_its_name(tiny_archive: Path, tmp_path: Path, command: str) -> None:
    video = write_demo_clip(tmp_path / "other video.mp4", DEMO_SCENES[2:3])
    words = [{"V": str(video), "F": str(tmp_path / "file")}.get(word, word) for word in command.split()]
    said = f"holds no index of {video}; to make one: hybrid index '{video}' --archive {tiny_archive}"
    if words[0] == "remove":
        shown = run(*words, "--archive", tiny_archive)
        assert shown.exit_code == 1
        assert said in shown.stderr
    else:
        with pytest.raises(VideoNotIndexedError) as caught:
            run(*words, "--archive", tiny_archive)
        assert said in str(caught.value)


def test_many_questions_show_frames_and_what_gens_says(clip: Path, tiny_archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    common: list[str | Path] = ["--archive", tiny_archive, "--preset", "tiny", "--device", "cpu", "--frames", "3"]
    asked = ["-q", "When is the red circle visible?", "-q", "When is the man at the door visible?"]
    shown = run("ask", clip, *asked, "--out", out, *common)
    frames = [line for line in shown.stdout.splitlines() if line.startswith("  frames ")]
    assert len(frames) == 2
    assert all(line.count(":") == 3 for line in frames)
    answers = [json.loads(line)["answer"] for line in out.read_text().splitlines()]
    notes = [
        note for answer in answers for stage in answer["stages"] if stage["name"] == "gens" for note in stage["notes"]
    ]
    told = " ".join(shown.stdout.split())
    assert all(" ".join(note.split()) in told for note in notes)
    again = run("ask", clip, *asked, "--out", out, "--json", *common)
    assert again.stdout == ""
    assert f"0 of 2 questions answered now, 2 there already: {out}" in again.stderr


def test_a_run_of_questions_that_is_stopped_says_how_to_go_on(
    clip: Path, tiny_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybrid.cli.input.questions import AnswerFile

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(AnswerFile, "add", interrupted)
    common: list[str | Path] = ["--archive", tiny_archive, "--preset", "tiny", "--device", "cpu", "--no-fine"]
    shown = CliRunner().invoke(app, ["ask", str(clip), "a?", "--out", str(tmp_path / "out"), *map(str, common)])
    assert shown.exit_code == 130
    assert "stopped; what was answered is kept in" in shown.stderr


def test_a_file_of_questions_that_is_not_there(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: cannot be read: No such file or directory; --questions is a file"):
        run("ask", clip, "--questions", tmp_path / "none")


def test_a_folder_of_videos_is_no_video_to_ask_about(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    with pytest.raises(InputError, match=r"with 1 video, and a question is asked about one: name it \(.*a\.mp4\)"):
        run("ask", folder, "a?", "--archive", tmp_path / "archive", "--preset", "tiny")
    assert not (tmp_path / "archive").exists()


def test_what_a_folder_of_videos_suggests_can_be_typed(clip: Path, tmp_path: Path) -> None:
    folder, archive = tmp_path / "my videos", tmp_path / "the archive"
    folder.mkdir()
    (folder / "a b.mp4").write_bytes(clip.read_bytes())
    with pytest.raises(InputError) as caught:
        run("ask", folder, "a?", "--archive", archive, "--preset", "tiny")
    told = str(caught.value)
    named = told.partition("name it (")[2].partition("), or")[0]
    assert shlex.split(named) == [str(folder / "a b.mp4")]
    index, search = told.partition("search them all: ")[2].split(", then ")
    assert shlex.split(index) == ["hybrid", "index", str(folder), "--archive", str(archive)]
    assert shlex.split(search) == ["hybrid", "search", "QUESTION", "--archive", str(archive)]
    for number in range(99):
        (folder / f"{number}.mp4").touch()
    with pytest.raises(InputError, match="is a folder with 100 videos"):
        run("ask", folder, "a?", "--archive", archive)
    (folder / "last.mp4").touch()
    with pytest.raises(InputError, match="is a folder with more than 100 videos"):
        run("ask", folder, "a?", "--archive", archive)


def test_a_folder_that_may_not_be_looked_into_is_left_to_whoever_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    # By way of the system's answer, because a test that runs as root may look into every folder.
    monkeypatch.setattr(Path, "iterdir", refuse)
    check_one_video(str(tmp_path), archive="archive")


def test_a_search_under_a_folder_without_videos_says_so(tiny_archive: Path) -> None:
    with pytest.raises(VideoNotIndexedError, match=r"of 1 video in archive .* none lies under /nowhere; .*hybrid list"):
        run("search", "a?", "--archive", tiny_archive, "--preset", "tiny", "--under", "/nowhere")


def test_a_model_that_is_not_there_is_told_in_one_line_for_one_video(clip: Path, tmp_path: Path) -> None:
    common = ["--archive", tmp_path / "archive", "--encoder", "local-dir:/no", "--workers", "0"]
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clip.read_bytes())
    for videos, said in (([clip], False), ([clip, copy], True)):
        shown = CliRunner().invoke(app, ["index", *map(str, [*videos, *common])])
        assert isinstance(shown.exception, ModelLoadError)
        assert ("stopped, because this would meet every further video" in shown.stderr) is said
