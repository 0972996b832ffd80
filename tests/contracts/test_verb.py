"""What every verb of the command line promises, run over all of them; and a toy verb."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from hybrid import Engine
from hybrid.cli.app import make_app
from hybrid.cli.registry import VERBS
from hybrid.demo import demo_video
from hybrid.errors import InputError
from tests.contracts.conftest import Toy

VERB_FILE = '''
    """``hybrid count``: how many videos an archive holds."""

    from hybrid.cli.display.text import report
    from hybrid.cli.options import DEFAULT_ARCHIVE, ArchiveOption, JsonOption
    from hybrid.cli.registry import Verb


    def count(archive: ArchiveOption = DEFAULT_ARCHIVE, as_json: JsonOption = False) -> None:
        """Count the videos of an archive."""
        from indexes.open_archive import open_archive

        with open_archive(archive, create=False) as opened:
            videos = len(list(opened.manifests()))
        report(f"{videos} videos", as_json=as_json, event="counted", videos=videos)


    VERB = Verb("count", count)
'''


@pytest.mark.parametrize("name", VERBS.names)
def test_every_verb_and_option_has_help(name: str) -> None:
    command: Any = typer.main.get_command(make_app())
    for word in name.split():
        command = command.commands[word]
    first = str(command.help).partition("\n\n")[0]
    assert first[:1].isupper()
    assert first.rstrip().endswith(".")
    flags: list[str] = []
    for parameter in command.params:
        assert parameter.help, parameter.name
        flags += [flag for flag in parameter.opts if flag.startswith("-")]
    assert len(flags) == len(set(flags))
    assert ("--json" in flags) == (name != "demo")
    assert CliRunner().invoke(make_app(), [*name.split(), "--help"]).exit_code == 0


def test_help_lists_the_verbs_in_their_order() -> None:
    shown = CliRunner().invoke(make_app(), ["--help"]).stdout.partition("Commands:")[2]
    listed = [line.split()[0] for line in shown.splitlines() if line.startswith("  ") and line[2:3].strip()]
    groups = [name.split()[0] for name in VERBS.names if " " in name]
    assert listed == [name for name in VERBS.names if " " not in name] + groups


def test_an_unknown_verb_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="there is no verb 'serch'; did you mean 'search'"):
        VERBS.find("serch")
    run = CliRunner().invoke(make_app(), ["serch"])
    assert run.exit_code == 2


def test_adding_a_verb_takes_one_file_and_one_line(toy: Toy, tmp_path: Path) -> None:
    toy(VERBS, "count", VERB_FILE)
    with Engine.open(tmp_path / "archive", preset="tiny", device="cpu") as engine:
        engine.index(demo_video())
    app = make_app()
    run = CliRunner().invoke(app, ["count", "--archive", str(tmp_path / "archive"), "--json"])
    assert json.loads(run.stdout) == {"event": "counted", "videos": 1}
    assert "Count the videos of an archive." in CliRunner().invoke(app, ["--help"]).stdout
    assert CliRunner().invoke(app, ["count", "--archive", str(tmp_path / "none")]).exit_code == 1
