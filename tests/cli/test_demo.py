"""``hybrid demo`` from end to end: the bundled models answer, and a wrong answer shows in the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from hybrid.answers import Answer
from hybrid.cli.app import app
from hybrid.demo import answers_rightly, demo_questions, demo_video
from hybrid.errors import InputError


def run_demo(out: Path) -> Result:
    return CliRunner().invoke(app, ["demo", "--out", str(out)], catch_exceptions=False)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "not" / "there yet"


@pytest.fixture(scope="module")
def shown(out: Path) -> Result:
    return run_demo(out)


def test_the_demo_answers_every_question_rightly(shown: Result, out: Path) -> None:
    assert shown.exit_code == 0
    questions = demo_questions()
    assert f"{len(questions)} of {len(questions)} questions answered rightly" in shown.stdout
    assert shown.stdout.count(": right ") == len(questions)
    assert "WRONG" not in shown.stdout
    for place, question in enumerate(questions, start=1):
        answer = Answer.from_json((out / f"answer-{place}.json").read_text(encoding="utf-8"))
        assert answer.question == question.text
        assert Path(answer.video) == demo_video()
        assert not answer.degraded
        assert answers_rightly(answer.frames, question)
        with Image.open(out / f"sheet-{place}.png") as sheet:
            assert len(sheet.getcolors(sheet.width * sheet.height) or ()) > 50


def test_a_wrong_answer_shows_in_the_exit_code(
    shown: Result, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same demo with a truth that the first answer does not fit; the second still does."""
    first, second = ({"question": one.text, "moments": one.moments} for one in demo_questions()[:2])
    first["moments"] = [[start + 12.0, end + 12.0] for start, end in demo_questions()[0].moments]
    other = tmp_path / "questions.json"
    other.write_text(json.dumps({"questions": [first, second]}), encoding="utf-8")
    # An absolute path: joined to the package's folder, it stays what it is.
    monkeypatch.setattr("hybrid.demo.QUESTIONS_FILE", str(other))
    again = run_demo(out)
    assert again.exit_code == 1
    assert "1 of 2 questions answered rightly" in again.stdout
    assert again.stdout.count("WRONG") == 1


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_file_cannot_be_the_folder_of_the_results(tmp_path: Path, below: str) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"--out is .*notes\.txt.*cannot be made.*--out demo-out"):
        run_demo(file / below)
    assert file.read_text(encoding="utf-8") == "mine"
