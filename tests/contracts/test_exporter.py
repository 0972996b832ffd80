"""What every answer exporter promises, run over all of them; and a toy exporter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hybrid.answers import Answer, AnswerFrame, Span, Stage
from hybrid.cli.app import make_app
from hybrid.demo import demo_video
from hybrid.errors import InputError, SaveError
from hybrid.export.interface import AnswerExporter, Pictures
from hybrid.export.registry import EXPORTERS, export_flags
from tests.contracts.conftest import Toy

QUESTION = "When can the green star be seen?"

EXPORTER_FILE = '''
    """An answer's spans as subtitles."""

    from hybrid.export.interface import AnswerExporter
    from hybrid.export.output_file import OutputKind
    from hybrid.export.text_file import write_text


    class SubtitleExporter(AnswerExporter):
        name = "subtitles"
        flag = "--subtitles"
        help = "Save the spans as subtitles here."
        kind = OutputKind("subtitles", (".srt",), b"WHEN: ")

        def write(self, answer, pictures, path):
            spans = [f"{span.start_seconds:.1f} --> {span.end_seconds:.1f}" for span in answer.spans]
            write_text(path, "\\n".join([f"WHEN: {answer.question}", *spans]))


    EXPORTER = SubtitleExporter()
'''


@pytest.fixture(params=EXPORTERS.names)
def exporter(request: pytest.FixtureRequest) -> AnswerExporter:
    return EXPORTERS.find(request.param)


def answer(*ordinals: int, question: str = "when?") -> Answer:
    frames = tuple(AnswerFrame(float(ordinal), ordinal, 30 * ordinal, 0.25, 4) for ordinal in ordinals)
    stages = (Stage("gens", True, 0.1, fallback_reason="a reason"),)
    return Answer(question, "talk.mp4", "ab" * 16, 60.0, (Span(1.0, 2.0, 4.0),), frames, stages)


def pictures(*ordinals: int) -> Pictures:
    return ((ordinal, np.full((36, 64, 3), 10 * ordinal, dtype=np.uint8)) for ordinal in ordinals)


def usual_path(exporter: AnswerExporter, folder: Path) -> Path:
    return folder / f"saved{exporter.kind.suffixes[0] if exporter.kind else ''}"


def contents(path: Path) -> dict[str, bytes]:
    files: Iterator[Path] = path.rglob("*") if path.is_dir() else iter([path])
    return {str(file.relative_to(path)): file.read_bytes() for file in files if file.is_file()}


def test_its_option_is_its_own(exporter: AnswerExporter) -> None:
    flags = export_flags()
    assert flags[exporter.name] == (exporter.flag, exporter.help)
    assert exporter.flag.startswith("--")
    assert exporter.help.endswith(".")
    assert len({flag for flag, _ in flags.values()}) == len(EXPORTERS)


def test_it_writes_and_replaces_what_it_wrote(exporter: AnswerExporter, tmp_path: Path) -> None:
    path = usual_path(exporter, tmp_path / "a folder" / "that is not there")
    exporter.check(path)
    exporter.write(answer(1, 2, 3), pictures(1, 2, 3), path)
    first = contents(path)
    assert first
    assert all(first.values())
    exporter.check(path)
    exporter.write(answer(4, question="and then?"), pictures(4), path)
    assert contents(path) != first
    exporter.write(answer(1, 2, 3), pictures(1, 2, 3), path)
    assert contents(path) == first
    assert [each for each in path.parent.iterdir() if each != path] == []


def test_frames_without_pictures_are_no_error(exporter: AnswerExporter, tmp_path: Path) -> None:
    path = usual_path(exporter, tmp_path)
    exporter.write(answer(1, 2), pictures(), path)
    exporter.write(answer(), pictures(), path)
    assert contents(path)


def test_a_place_that_cannot_be_written_is_an_error_that_names_it(exporter: AnswerExporter, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = usual_path(exporter, tmp_path / "file")
    with pytest.raises(SaveError, match=r"saved.*"):
        exporter.write(answer(1), pictures(1), path)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_foreign_file_is_refused_before_any_work(exporter: AnswerExporter, tmp_path: Path) -> None:
    if exporter.kind is None:
        path = tmp_path / "photos"
        path.mkdir()
        (path / "mine.png").write_bytes(b"mine")
        exporter.write(answer(1), pictures(1), path)
        assert (path / "mine.png").read_bytes() == b"mine"
        with pytest.raises(InputError, match="is a file; name a folder"):
            exporter.check(path / "mine.png")
        return
    path = usual_path(exporter, tmp_path)
    path.write_text("my notes")
    with pytest.raises(InputError, match=rf"{exporter.flag} is .*would be lost"):
        exporter.check(path)
    with pytest.raises(InputError, match="its name must end in"):
        exporter.check(path.with_suffix(".mp4"))
    with pytest.raises(InputError, match="belongs to the archive"):
        exporter.check(path, archive=str(tmp_path))


def test_adding_an_exporter_takes_one_file_and_one_line(toy: Toy, tmp_path: Path) -> None:
    toy(EXPORTERS, "subtitles", EXPORTER_FILE)
    saved = tmp_path / "answer.srt"
    options = ["--archive", str(tmp_path / "archive"), "--preset", "tiny", "--no-fine", "--device", "cpu"]
    app = make_app()
    assert "--subtitles <path>" in CliRunner().invoke(app, ["ask", "--help"]).stdout
    run = CliRunner().invoke(app, ["ask", str(demo_video()), QUESTION, *options, "--subtitles", str(saved)])
    assert run.exit_code == 0, run.output
    assert f"saved {saved}" in run.stdout
    question, first, *_ = saved.read_text().splitlines()
    assert question == f"WHEN: {QUESTION}"
    assert " --> " in first
    many = CliRunner().invoke(app, ["ask", str(demo_video()), "a?", "-q", "b?", *options, "--subtitles", str(saved)])
    assert isinstance(many.exception, InputError)
    assert "--subtitles is for a single question" in str(many.exception)
    umlaut = CliRunner().invoke(
        app, ["ask", str(demo_video()), "Wo ist der grüne Stern?", *options, "--subtitles", str(saved)]
    )
    assert umlaut.exit_code == 0, umlaut.output
    assert "grüne" in saved.read_text(encoding="utf-8")
    test_a_foreign_file_is_refused_before_any_work(EXPORTERS.find("subtitles"), tmp_path)
