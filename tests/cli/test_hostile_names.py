"""Every verb in a pseudo terminal, with names, questions and paths that would command it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hybrid.cli.app import app
from hybrid.cli.display.text import printable, styled, terminal
from tests.demo_clip import DEMO_SCENES, write_demo_clip

COMMANDS = "\x1b]0;pwned\x07\x1b[2J\x08\x9b31m[red]x\tt\nFAKE\r\u202e\u2066\u200b\ufeff\u2028"
HOSTILE = COMMANDS + "\udcff"
"""A title, a cleared screen, C1 controls, markup, a tab, new lines, marks of direction, no width, a byte of no text."""

OWN_SEQUENCES = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[lh]|2K|1A)")
"""What rich writes of its own: styles, the cursor shown or not, lines of a bar erased."""

DRIVER = """
import json, logging, sys, warnings
from pathlib import Path
from hybrid.cli.app import main
for arguments in json.loads(Path(sys.argv[1]).read_text()):
    sys.argv = ["hybrid", *arguments]
    try:
        main()
    except SystemExit as exc:
        print(f"[{exc.code}]", flush=True)
hostile = arguments[-1]
logging.getLogger("some.library").warning("read %s", hostile)
warnings.warn(f"odd: {hostile}")
from hybrid.cli.display.run_report import RunReport
with RunReport(workers=2, videos=2, as_json=False) as report:
    report.progress(0).start(hostile)
    report.progress(0).stage("embed")
    report.progress(0).advance(3)
raise RuntimeError(hostile)
"""


def in_terminal(commands: list[list[str]], folder: Path) -> tuple[str, int]:
    """What a process that runs commands one after the other writes to its terminal."""
    (folder / "commands.json").write_text(json.dumps(commands))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 30_000, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder / "commands.json")],
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"},
    )
    os.close(slave)
    written = bytearray()
    while True:
        try:
            part = os.read(master, 65_536)
        except OSError:  # the terminal's other end was closed
            break
        if not part:
            break
        written += part
    os.close(master)
    return written.decode("utf-8", "surrogateescape"), process.wait()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("hostile")
    named = folder / f"{HOSTILE}d"
    named.mkdir()
    clip = write_demo_clip(folder / "clip.mp4", DEMO_SCENES[:1])
    good, bad = named / f"good{HOSTILE}.mp4", named / f"bad{HOSTILE}.mp4"
    clip.rename(good)
    bad.write_bytes(b"no video")
    return {"folder": folder, "named": named, "good": good, "bad": bad, "archive": folder / f"archive{COMMANDS}"}


def test_no_verb_lets_a_name_command_the_terminal(places: dict[str, Path]) -> None:
    good, bad, named = str(places["good"]), str(places["bad"]), str(places["named"])
    archive = ["--archive", str(places["archive"])]
    tiny = ["--preset", "tiny", "--device", "cpu"]
    commands = [
        ["index", good, bad, *archive, *tiny, "--workers", "0"],
        ["index", good, bad, *archive, *tiny, "--dry-run"],
        ["index", f"{named}/none{HOSTILE}", *archive, *tiny],
        ["list", *archive],
        ["stats", *archive],
        ["verify", *archive],
        [
            "ask",
            good,
            f"when? {COMMANDS}[/red][/]",
            *archive,
            *tiny,
            "--no-fine",
            "--frames",
            "2",
            "--sheet",
            f"{named}/s.png",
        ],
        [
            "ask",
            good,
            f"a {COMMANDS}",
            "-q",
            f"b {COMMANDS}",
            *archive,
            *tiny,
            "--no-fine",
            "--out",
            f"{named}/a.jsonl",
        ],
        ["ask", named, "a?", *archive, *tiny, "--no-fine"],
        ["ask", bad, "a?", *archive, *tiny, "--no-fine"],
        ["ask", good, "a?", *archive, *tiny, "--select", HOSTILE],
        ["ask", good, "a?", *archive, *tiny, "--no-fine", "--encoder", HOSTILE],
        ["search", f"when? {COMMANDS}[/red][/]", *archive, *tiny],
        ["search", "a?", "--since", HOSTILE, *archive, *tiny],
        ["search", "a?", "--under", named, "--video", bad, *archive, *tiny],
        ["export", good, f"{named}/one.zip", *archive],
        ["export", good, f"{named}/one{HOSTILE}.srt", *archive],
        ["import", f"{named}/one.zip", bad, "--archive", f"{named}/other"],
        ["convert", f"{named}/copy", "--backend", "faiss", *archive],
        ["compact", *archive],
        ["features", "drop", good, *archive],
        ["features", HOSTILE],
        ["selectors"],
        ["doctor", "--preset", HOSTILE],
        ["demo", "--out", bad],
        ["convert-gens", f"{named}/none", f"{named}/dest"],
        ["remove", good, bad, f"{named}/none", *archive],
        ["remove", "--gone", *archive],
        ["list", "--archive", f"{named}/none"],
        [HOSTILE],
        ["ask", good, "a?", "--frames", HOSTILE],
        ["ask", good, "a?", f"--frames={HOSTILE}"],
        ["list", f"--{HOSTILE}"],
        ["list", HOSTILE],
    ]
    shown, code = in_terminal(commands, places["folder"])
    assert code == 1  # of the error at the end
    assert "pwned" in shown
    assert re.search(r"good\\x1b\]0;pwned\\x07\\x1b\[2J\\x08\\x9b31m\[red\]x\\tt\\nFAKE\\r\\u202e", shown)
    assert shown.count("[0]") + shown.count("[None]") >= 12, shown  # the verbs did their work
    bare = OWN_SEQUENCES.sub("", shown)
    controls = {letter for letter in bare if not letter.isprintable() and letter not in "\r\n"}
    assert controls == set(), [line for line in bare.splitlines() if controls & set(line)][:3]
    lines = bare.replace("\r", "\n").split("\n")
    assert [place for place, line in enumerate(lines) if line.startswith("FAKE")] == []


def test_json_is_exact(places: dict[str, Path], tmp_path: Path) -> None:
    good, archive = str(places["good"]), str(tmp_path / f"archive{COMMANDS}")
    tiny = ["--preset", "tiny", "--device", "cpu", "--archive", archive, "--json"]

    def documents(*arguments: str) -> list[dict[str, object]]:
        result = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
        assert result.stdout.isascii()
        assert "\x7f" not in result.stdout
        try:
            return [json.loads(result.stdout)]
        except ValueError:
            return [json.loads(line) for line in result.stdout.splitlines()]

    assert documents("index", good, "--workers", "0", *tiny)[-2]["video"] == good
    question = f"when? {COMMANDS}\x7f"
    (answer,) = documents("ask", good, question, "--no-fine", *tiny)
    assert (answer["question"], answer["video"]) == (question, good)
    (found,) = documents("search", question, *tiny)
    assert found["question"] == question
    (listed,) = documents("list", "--archive", archive, "--json")
    assert listed["source"]["path"] == good  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain 1.mp4", "plain 1.mp4"),
        ("Größe 日本 😀 e\u0301 a\u00a0b \u3000", "Größe 日本 😀 e\u0301 a\u00a0b \u3000"),
        ("\x1b[2J\x07\x00\x7f", r"\x1b[2J\x07\x00\x7f"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x80\x9b\x9f", r"\x80\x9b\x9f"),
        ("\u202a\u202e\u2066\u2069\u200e\u061c", r"\u202a\u202e\u2066\u2069\u200e\u061c"),
        ("\u200b\u200d\u2060\ufeff\u00ad", r"\u200b\u200d\u2060\ufeff\xad"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\ud800\udcff", r"\ud800\udcff"),
        ("\U000e0041\ue000", r"\U000e0041\ue000"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown
    assert styled(text, (text, "bold")).plain == shown + shown


def test_cells_of_tables_are_texts_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table(f"a {COMMANDS}", title=f"t {COMMANDS}")
    table.add_row(COMMANDS)
    console = terminal()
    console.width = 1000
    console.print(table)
    console.print(f"line {COMMANDS} :smile:")
    shown = capsys.readouterr().out
    assert shown.count(printable(COMMANDS)) == 4
    assert ":smile:" in shown


def test_nothing_in_the_command_line_prints_past_the_one_place() -> None:
    folder = Path(__file__).parents[2] / "hybrid" / "cli"
    for file in folder.glob("*.py"):
        if file.name not in ("text.py", "progress.py"):
            found = re.findall(r"typer\.echo|\bConsole\(|sys\.std(?:out|err)|(?<![\w.])print\(", file.read_text())
            assert found == [], file.name
