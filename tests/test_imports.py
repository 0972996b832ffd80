"""What an import and a help page cost, and what the public surface is."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hybrid

HEAVY = ("torch", "torchvision", "transformers", "open_clip", "faiss", "lancedb", "pyarrow", "av", "decord")
REPOSITORY = Path(__file__).resolve().parent.parent


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split("\n"))


@pytest.mark.parametrize(
    "statement", ["import hybrid", "import hybrid.cli", "import indexes", "from hybrid import Answer"]
)
def test_an_import_loads_nothing_heavy(statement: str) -> None:
    loaded = modules_after(statement)
    assert "hybrid" in loaded or "indexes" in loaded
    assert not loaded & set(HEAVY)


def test_help_is_shown() -> None:
    command = [sys.executable, "-c", "from hybrid.cli import main; main()", "--help"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "index" in run.stdout
    assert "ask" in run.stdout


def test_help_loads_little_and_nothing_heavy() -> None:
    """It takes under half a second, nearly all of it for modules; their number is the same on any machine."""
    show_help = "sys.argv = ['hybrid', '--help']\ntry:\n    hybrid.cli.main()\nexcept SystemExit:\n    pass"
    loaded = modules_after(f"import hybrid.cli\n{show_help}")
    assert not loaded & set(HEAVY)
    assert len(loaded) < 450, "269 when this was written"


def test_every_public_name_is_there() -> None:
    for name in hybrid.__all__:
        assert getattr(hybrid, name) is not None
    assert set(hybrid.__all__) <= set(dir(hybrid))
    with pytest.raises(AttributeError, match="no_such_name"):
        hybrid.no_such_name  # noqa: B018


def test_every_error_is_in_the_tree_that_is_drawn() -> None:
    errors = importlib.import_module("hybrid.errors")
    drawn = set(re.findall(r"\b(\w+Error)\b", errors.__doc__ or ""))
    named = {name for name in errors.__all__ if name.endswith("Error")}
    assert drawn == named
    for name in named:
        assert issubclass(getattr(errors, name), errors.HybridError)


def test_the_version_is_the_same_everywhere() -> None:
    project = re.search(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    changelog = re.search(r"^## \[(\d[^\]]*)\]", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert project is not None
    assert changelog is not None
    assert project[1] == changelog[1] == hybrid.__version__


def test_what_the_fork_server_has_in_memory_can_be_imported() -> None:
    """Its own errors are swallowed: a module that was renamed would only make every kill test slow."""
    subprocess.run([sys.executable, "-c", "import tests.forked_modules"], check=True, cwd=REPOSITORY)
