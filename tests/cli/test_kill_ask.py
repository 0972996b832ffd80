"""kill -9 while ``hybrid ask --out`` runs: only questions whose reply was not finished are asked again."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.demo_clip import DEMO_SCENES, write_demo_clip
from tests.fine.talker import make_talker
from tests.forked import start_command

QUESTIONS = 60
KILLED_AFTER = (1, 4, 2, 7)
"""For each kill: how many more answers are in the file. GenS has finished one more reply by then."""


def whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects in the lines of a file; a line that a kill cut, or a library's words, are none."""
    for line in path.read_bytes().splitlines(keepends=True):
        if line.startswith(b"{") and line.endswith(b"\n"):
            yield json.loads(line)


def finished(errors: Path) -> list[int]:
    """The ids of the questions whose reply was finished, in that order, as --stream tells it."""
    return [line["id"] for line in whole_lines(errors) if line["finished"]] if errors.exists() else []


def test_only_replies_that_were_not_finished_are_lost(clip_folder: Path, gens_folder: Path, tmp_path: Path) -> None:
    clip = write_demo_clip(tmp_path / "clip.mp4", DEMO_SCENES[:1])
    talker = make_talker(Path(shutil.copytree(gens_folder, tmp_path / "talker")))  # replies of many lengths
    prompt, questions = tmp_path / "prompt.json", tmp_path / "questions.jsonl"
    prompt.write_text('{"max_new_tokens": 60}')
    questions.write_text("".join(f'{{"id": {n}, "question": "Where is number {n}?"}}\n' for n in range(QUESTIONS)))
    output, errors = tmp_path / "stdout.jsonl", tmp_path / "stderr.txt"

    def start(out: Path, *, hold_after: int | None = None) -> Any:
        errors.unlink(missing_ok=True)
        options = ["--archive", str(tmp_path / "archive"), "--encoder", f"local-dir:{clip_folder}", "--device", "cpu"]
        options += ["--sampler", str(talker), "--prompt", str(prompt), "--constrained", "--window", "3"]
        arguments = ["ask", str(clip), "--questions", str(questions), "--out", str(out), "--stream", "--json", *options]
        return start_command(arguments, output, errors=errors, hold_after=hold_after)

    def answered(out: Path) -> dict[int, dict[str, Any]]:
        lines = list(whole_lines(out)) if out.exists() else []
        answers = {line["id"]: line["answer"] for line in lines}
        assert len(answers) == len(lines), "no question is answered twice"
        return answers

    run = start(tmp_path / "whole.jsonl")
    run.join()
    assert run.exitcode == 0
    expected = answered(tmp_path / "whole.jsonl")
    assert set(expected) == set(range(QUESTIONS))
    order = list(expected)
    assert order == finished(errors), "in the order in which the replies were finished"
    assert order != sorted(order), "which is not that of the questions"

    out = tmp_path / "answers.jsonl"
    for wanted in KILLED_AFTER:
        before = set(answered(out))
        run = start(out, hold_after=wanted)
        while run.is_alive() and len(finished(errors)) <= wanted:
            time.sleep(0.002)
        run.kill()
        run.join()
        assert run.exitcode == -signal.SIGKILL
        told = finished(errors)
        assert len(told) == wanted + 1
        # A reply is told of, the answer made of it and written, and only then comes the next one.
        assert set(answered(out)) - before == set(told[:-1])
    left = QUESTIONS - len(answered(out))
    assert left == QUESTIONS - sum(KILLED_AFTER)
    run = start(out)
    run.join()
    assert run.exitcode == 0
    assert len(finished(errors)) == left
    said = {number: (answer["reply"], answer["frames"], answer["spans"]) for number, answer in answered(out).items()}
    assert said == {n: (answer["reply"], answer["frames"], answer["spans"]) for n, answer in expected.items()}
