"""Many questions on the command line: files in, lines out, and going on where a run was stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hybrid.answers import Answer, Stage
from hybrid.cli.app import app
from hybrid.cli.display.text import size
from hybrid.cli.input.questions import AnswerFile, Question, read_questions
from hybrid.errors import HybridError, InputError
from tests.demo_clip import DEMO_SCENES, write_demo_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", DEMO_SCENES[:1])


@pytest.fixture
def models(clip_folder: Path, gens_folder: Path, tmp_path: Path) -> list[str]:
    """Options that may also be said where GenS is left out."""
    return [
        *("--archive", str(tmp_path / "archive"), "--encoder", f"local-dir:{clip_folder}"),
        *("--sampler", str(gens_folder), "--device", "cpu"),
    ]


@pytest.fixture
def options(models: list[str], tmp_path: Path) -> list[str]:
    prompt = tmp_path / "prompt.json"
    prompt.write_text('{"max_new_tokens": 40}')  # an untrained model goes on to the limit
    return [*models, "--prompt", str(prompt)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions that reach the engine, in order."""
    from hybrid.engine import AskEvent, Engine

    heard: list[str] = []
    real = Engine.stream

    def listening(
        self: Engine, video: object, questions: list[str], *rest: object, **more: object
    ) -> Iterator[AskEvent]:
        heard.extend(questions)
        return real(self, video, questions, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "stream", listening)
    return heard


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_questions_one_behind_the_other(clip: Path, models: list[str]) -> None:
    done = run("ask", clip, "first?", "-q", "second?", "--question", "third?", "--no-fine", "--json", *models)
    assert done.exit_code == 0
    assert [line["question"] for line in lines(done.stdout)] == ["first?", "second?", "third?"]
    assert all(Answer.from_dict({k: v for k, v in line.items() if k != "id"}).frames for line in lines(done.stdout))
    people = run("ask", clip, "-q", "first?", "-q", "second?", "--no-fine", *models)
    assert people.stdout.index("first?") < people.stdout.index("second?")
    assert "by clip" in people.stdout
    one = run("ask", clip, "-q", "only?", "--no-fine", "--json", *models)
    assert Answer.from_json(one.stdout).question == "only?"


def test_a_file_of_questions_is_answered_and_gone_on_with(
    clip: Path, models: list[str], tmp_path: Path, asked: list[str]
) -> None:
    questions, out = tmp_path / "questions.jsonl", tmp_path / "sub" / "answers.jsonl"
    questions.write_text('{"question": "first?", "id": 7}\n\nsecond?\n"third?"\n')
    arguments = ["ask", clip, "--questions", questions, "--out", out, "--no-fine", *models]
    first = run(*arguments)
    assert first.exit_code == 0
    assert "3 of 3 questions answered now" in first.stdout
    written = lines(out.read_text())
    assert [(line["id"], line["question"]) for line in written] == [(7, "first?"), (None, "second?"), (None, "third?")]
    assert all(Answer.from_dict(line["answer"]).frames for line in written)  # type: ignore[arg-type]
    assert asked == ["first?", "second?", "third?"]

    # A killed run: the last line is half there.
    whole = out.read_bytes()
    out.write_bytes(whole[: whole.rindex(b'"third?"') + 20])
    again = run(*arguments)
    assert "1 of 3 questions answered now, 2 there already" in again.stdout
    assert asked[3:] == ["third?"]
    assert [line["question"] for line in lines(out.read_text())] == ["first?", "second?", "third?"]
    run(*arguments)
    assert asked[4:] == []

    other = run(*arguments, "--frames", "3")
    assert "3 of 3 questions answered now" in other.stdout
    assert len(lines(out.read_text())) == 6


def test_answers_without_the_sampler_that_was_asked_for_are_asked_again(
    clip: Path, options: list[str], tmp_path: Path, asked: list[str]
) -> None:
    out = tmp_path / "answers.jsonl"
    broken = [*options, "--sampler", str(tmp_path / "nothing")]
    for _ in range(2):
        assert run("ask", clip, "first?", "--out", out, *broken).exit_code == 0
    assert asked == ["first?", "first?"]
    assert len(lines(out.read_text())) == 2


@pytest.mark.parametrize(
    "content",
    [
        "my notes\n",
        '{"id": 1}\n',
        '{"id": [1], "question": "a?", "configuration": {}, '
        '"answer": {"stages": [{"name": "gens", "ran": true, "fallback_reason": null}], "reply": "{}"}}\n',
        "my notes",
    ],
)
def test_a_file_that_holds_something_else_is_left_alone(
    clip: Path, models: list[str], tmp_path: Path, content: str
) -> None:
    out = tmp_path / "notes.txt"
    out.write_text(content)
    with pytest.raises(InputError, match="another file"):
        run("ask", clip, "first?", "--out", out, "--no-fine", *models)
    assert out.read_text() == content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("\n  \n", "no question in it"),
        ('{"id": 3}\n', "line 1: it needs"),
        ('ok?\n{"question": "x"\n', "line 2: not JSON"),
        ('{"question": "x", "id": [1]}', '"id" is'),
        ('{"question": " "}', "it needs"),
    ],
)
def test_files_that_hold_no_questions_are_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "q").write_text(content)
    with pytest.raises(InputError, match=says):
        read_questions(tmp_path / "q")


def test_what_a_line_can_be(tmp_path: Path) -> None:
    path = tmp_path / "q"
    path.write_text('\ufeffa?\n"Stop!" he says. When?\n"b?"\n {"question": "a?", "id": "x"}\na?\n', encoding="utf-8")
    assert read_questions(path) == [
        Question("a?"),
        Question('"Stop!" he says. When?'),
        Question("b?"),
        Question("a?", "x"),
    ]
    with pytest.raises(InputError, match="cannot be read"):
        read_questions(tmp_path / "nothing")


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
def test_only_line_feeds_end_a_line(tmp_path: Path, mark: str) -> None:
    """JSON leaves U+2028 and the like as they are, and text that was copied from the web holds them."""
    path, text = tmp_path / "q", f"où est{mark}中文?"
    document = json.dumps({"question": text, "id": 1}, ensure_ascii=False)
    path.write_bytes(f"{document}\r\n{text}\r\nlast?".encode())
    assert read_questions(path) == [Question(text, 1), Question(text), Question("last?")]


def an_answer(*, gens: Stage, reply: str | None) -> Answer:
    return Answer("a?", "v.mp4", "0f", 1.0, (), (), (gens,), reply)


def test_what_counts_as_answered(tmp_path: Path) -> None:
    kinds = {
        "ran": an_answer(gens=Stage("gens", True, 0.0), reply='{"1": 5}'),
        "said nothing": an_answer(gens=Stage("gens", False, 0.0, fallback_reason="no scores"), reply="{}"),
        "not asked for": an_answer(gens=Stage("gens", False, 0.0), reply=None),
        "failed": an_answer(gens=Stage("gens", False, 0.0, fallback_reason="no weights"), reply=None),
    }
    path = tmp_path / "answers.jsonl"
    with AnswerFile(path, {"x": (1, 2)}) as file:
        for name, answer in kinds.items():
            file.add(Question(name), answer)
    everything = [Question(name) for name in kinds]
    with AnswerFile(path, {"x": (1, 2)}) as file:
        assert file.left(everything) == [Question("failed")]
    with AnswerFile(path, {"x": (1, 3)}) as file:
        assert file.left(everything) == everything


def test_a_last_line_that_is_torn_anywhere_is_asked_again(tmp_path: Path) -> None:
    """Answers come in any order, so the line that a kill tears may be that of any question."""
    path, questions = tmp_path / "answers.jsonl", [Question("a?", 1), Question("a?", 2), Question("é?")]
    with AnswerFile(path, {}) as file:
        for question in reversed(questions):
            file.add(question, an_answer(gens=Stage("gens", True, 0.0), reply='{"1": 5}'))
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in [*range(start, len(whole), 17), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with AnswerFile(path, {}) as file:
            assert file.left(questions) == questions[:1]
            file.add(questions[0], an_answer(gens=Stage("gens", True, 0.0), reply='{"1": 5}'))
        assert path.read_bytes() == whole


def test_no_question_or_pictures_of_many(clip: Path, options: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no question"):
        run("ask", clip, *options)
    with pytest.raises(InputError, match="single question"):
        run("ask", clip, "a?", "-q", "b?", "--sheet", tmp_path / "sheet.png", *options)


def test_windows_by_name_and_by_number(clip: Path, options: list[str]) -> None:
    def stages(*more: str) -> dict[str, dict[str, object]]:
        done = run("ask", clip, "a red circle", "--json", *more, *options)
        return {stage["name"]: stage for stage in json.loads(done.stdout)["stages"]}

    assert stages("--window", "3")["gens"]["candidates_in"] == 3
    assert stages("--window-frames", "4", "--window", "scattered")["gens"]["candidates_in"] == 4
    context = stages("--window", "context", "--window-frames", "3", "--context", "1")
    assert context["gens"]["candidates_in"] == 3
    # 7 frames (the clip lasts 6.006 s) in segments of at most 2.
    segments = stages("--window", "segments", "--window-frames", "2", "--segments", "4")
    assert segments["gens"]["candidates_in"] == 7
    assert segments["gens"]["details"]["windows"] == 4  # type: ignore[index]
    with pytest.raises(InputError, match="scattered, context, segments"):
        run("ask", clip, "a?", "--window", "some", *options)


def test_spans_are_streamed_on_standard_error(clip: Path, options: list[str]) -> None:
    done = run("ask", clip, "a red circle", "--constrained", "--min-score", "1", "--stream", "--json", *options)
    # The model libraries speak there too where the command line's own process has not silenced them.
    updates = lines("\n".join(line for line in done.stderr.splitlines() if line.startswith("{")))
    answer = Answer.from_json(done.stdout)
    assert updates[-1]["finished"]
    assert [span["start_seconds"] for span in updates[-1]["spans"]] == [span.start_seconds for span in answer.spans]  # type: ignore[attr-defined]


def test_index_with_features_shows_them_and_they_can_be_dropped(
    clip: Path, models: list[str], options: list[str], tmp_path: Path
) -> None:
    archive = ["--archive", str(tmp_path / "archive")]
    plain = run("index", clip, "--no-features", *models)
    assert "stored for the sampler" not in plain.stdout
    tried = run("index", clip, "--dry-run", *options)
    assert "features of 7 frames are to be made for the sampler, 28.7 kB more on disk" in tried.stdout
    indexed = run("index", clip, *options)
    assert "unchanged" in indexed.stdout
    assert "features of 7 frames are stored for the sampler" in indexed.stdout
    assert "to be made" not in run("index", clip, "--dry-run", *options).stdout
    (line,) = lines(run("list", "--json", *archive).stdout)
    (stored,) = line["features"]  # type: ignore[misc]
    assert (stored["frames"], stored["dtype"]) == (7, "float32")
    assert stored["size_bytes"] == 7 * 16 * 64 * 4
    assert size(stored["size_bytes"]) == "28.7 kB"
    assert "28.7" in run("list", *archive).stdout
    answer = json.loads(run("ask", clip, "a red circle", "--json", *options).stdout)
    assert [stage["ran"] for stage in answer["stages"] if stage["name"] == "frames"] == [False]
    fresh = json.loads(run("ask", clip, "a red circle", "--json", "--no-features", *options).stdout)
    assert (fresh["reply"], fresh["frames"]) == (answer["reply"], answer["frames"])
    dropped = run("features", "drop", clip, *archive)
    assert dropped.exit_code == 0
    assert "of features" in dropped.stdout
    (line,) = lines(run("list", "--json", *archive).stdout)
    assert line["features"] == []
    (again,) = lines(run("features", "drop", line["video_id"], "--json", *archive).stdout)  # type: ignore[arg-type]
    assert again["freed_bytes"] == 0
    assert "clip.mp4: no features are stored" in run("features", "drop", clip, *archive).stdout
    with pytest.raises(HybridError):
        run("features", "drop", clip, "--archive", tmp_path / "none")


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (236 * 10**6, "236.0 MB")])
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text
