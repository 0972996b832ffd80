"""Questions from a file, and answers into one: a line each, so that a run that was stopped can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from hybrid.errors import InputError, SaveError
from hybrid.storage.foreign_json import ForeignJsonError, JsonLimitError, JsonLimits, parse_json, read_text
from hybrid.values import check_questions

if TYPE_CHECKING:
    from hybrid.answers import Answer

__all__ = ["AnswerFile", "Question", "read_questions"]


_LIMITS = JsonLimits(size=64 * 2**20)
"""For one line of answers; the spans and frames of a long video are many."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and what the caller calls it.

    Attributes:
        text: plain text.
        name: its ``id`` in the file, or None.
    """

    text: str
    name: str | int | None = None


def read_questions(path: Path) -> list[Question]:
    """The questions of a file, each once, in order.

    A line is a question; or, if it starts with a brace, a JSON object with ``question`` and optionally
    ``id``; or, if it starts with a quotation mark, a JSON string. Empty lines are passed over.

    Raises:
        InputError: the file cannot be read, holds no question, or a line is not one.
    """
    try:
        # Python's splitlines also cuts at characters that a question may hold, such as U+2028 or U+0085.
        lines = read_text(path).split("\n")
    except OSError as exc:
        raise InputError(f"{path}: cannot be read: {exc.strerror or exc}; --questions is a file, a line each") from exc
    found = [_question(line.strip(), str(path), number) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise InputError(f"{path}: there is no question in it; write one a line")
    return list(dict.fromkeys(found))


def _question(line: str, path: str, number: int) -> Question:
    where = f"{path}, line {number}"
    document = _document(line, path, number)
    text, name = document.get("question"), document.get("id")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f'{where}: it needs "question" with a text')
    if name is not None and (not isinstance(name, str | int) or isinstance(name, bool)):
        raise InputError(f'{where}: "id" is {ascii(name)[:80]}; it must be a text or a whole number')
    try:
        check_questions([text])
    except InputError as exc:
        raise InputError(f"{where}: {exc}") from exc
    return Question(text, name)


def _document(line: str, path: str, number: int) -> dict[str, Any]:
    """A line as a JSON object, whichever form it has."""
    if line[0] not in '{"':
        return {"question": line}
    try:
        document = parse_json(line, where=path, line=number)
    except JsonLimitError:
        raise
    except ForeignJsonError:
        if line[0] == '"':
            return {"question": line}  # a question may begin with a quotation
        raise
    return {"question": document} if isinstance(document, str) else document


class AnswerFile:
    """A file of answers that grows by whole lines. Use it as a context manager.

    Each line is a JSON object: ``id``, ``question``, ``configuration`` (everything that decides the
    answer) and ``answer``. Lines may have any order: they are known by question and id. A line that a
    killed run left half written is cut off.

    Args:
        path: the file; made if it is not there.
        configuration: of this run.

    Raises:
        InputError: the file holds something else.
        SaveError: it cannot be read or written.
    """

    def __init__(self, path: Path, configuration: Mapping[str, Any]) -> None:
        self._configuration = json.loads(json.dumps(configuration))
        self._done: set[Question] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("a+b")
            try:
                self._file.seek(0)
                self._resume(path)
            except BaseException:
                self._file.close()
                raise
        except OSError as exc:
            raise SaveError(f"{path}: cannot be written: {exc.strerror or exc}") from exc

    def left(self, questions: Iterable[Question]) -> list[Question]:
        """Those that have no answer of this configuration here."""
        return [question for question in questions if question not in self._done]

    def add(self, question: Question, answer: Answer) -> None:
        """Write an answer; it is on disk when this returns.

        Raises:
            SaveError: the disk is full.
        """
        facts = {"id": question.name, "question": question.text, "configuration": self._configuration}
        line = json.dumps({**facts, "answer": answer.to_dict()})
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as exc:
            raise SaveError(f"{self._file.name}: cannot be written: {exc.strerror or exc}") from exc

    def __enter__(self) -> AnswerFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _resume(self, path: Path) -> None:
        whole = 0
        for number in count(1):
            line = self._file.readline(_LIMITS.size + 1)
            if len(line) > _LIMITS.size:
                raise InputError(f"{path}, line {number}: too long for an answer; choose another file for --out")
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                document = parse_json(line, where=str(path), limits=_LIMITS, names=True, line=number)
                question = Question(document["question"], document["id"])
                hash(question)  # an id that is a list has none
                answered = _is_answered(document["answer"])
                same = document["configuration"] == self._configuration
            except (ValueError, KeyError, TypeError, AttributeError) as exc:
                raise InputError(
                    f"{path}, line {number}: not an answer of hybrid ask; choose another file for --out"
                ) from exc
            if same and answered:
                self._done.add(question)
        # What follows the last line feed is the rest of a run that was killed. Were it a whole line of
        # something else, it would be refused rather than cut.
        if line and not line.startswith(b'{"id":'[: len(line)]):
            raise InputError(f"{path}: it does not end in an answer of hybrid ask; choose another file for --out")
        if line:
            self._file.truncate(whole)


def _is_answered(answer: Mapping[str, Any]) -> bool:
    """An answer for which GenS, or the scorer that was asked for, could not run is asked again."""
    stages = {stage["name"]: stage for stage in answer["stages"]}
    asked_for = stages["gens"]["fallback_reason"] is not None or stages["gens"]["ran"]
    failed = stages.get("frames", {}).get("fallback_reason") is not None and not stages["gens"]["ran"]
    failed = failed or not stages.get("scores", {"ran": True})["ran"]
    return not failed and (answer["reply"] is not None or not asked_for)
