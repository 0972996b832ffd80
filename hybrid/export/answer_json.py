"""One answer as a JSON document, which :meth:`hybrid.answers.Answer.from_json` reads."""

from __future__ import annotations

from pathlib import Path

from hybrid.answers import Answer
from hybrid.export.interface import AnswerExporter, Pictures
from hybrid.export.output_file import OutputKind
from hybrid.export.text_file import write_text

__all__ = ["EXPORTER", "JsonExporter"]


class JsonExporter(AnswerExporter):
    """An answer as a JSON document."""

    name = "json"
    flag = "--json-file"
    help = "Save the answer as JSON here."
    kind = OutputKind("an answer (JSON)", (".json",), b"{")

    def write(self, answer: Answer, pictures: Pictures, path: Path) -> None:
        """See the base class; no picture is decoded."""
        write_text(path, answer.to_json() + "\n")


EXPORTER = JsonExporter()
