"""Put the verbs together, and turn errors into one readable line and an exit code."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any

import typer

from hybrid import __version__
from hybrid.cli.display.text import echo, printable
from hybrid.cli.from_fields import command
from hybrid.cli.registry import VERBS
from hybrid.errors import HybridError, InputError
from hybrid.runtime import settle_process

__all__ = ["app", "main", "make_app"]

EXIT_FAILED = 1
EXIT_USAGE = 2


def _version(value: bool) -> None:
    if value:
        echo(f"hybrid {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def _group(help: str) -> typer.Typer:
    return typer.Typer(
        help=help, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )


def make_app() -> typer.Typer:
    """The command line with all verbs that are registered now."""
    root = _group("Index a video once, then ask it many questions: CLIP finds candidates, GenS reads them.")
    root.callback()(_root)
    groups: dict[str, typer.Typer] = {"": root}
    for verb in VERBS:
        group, _, name = verb.name.rpartition(" ")
        if group not in groups:
            groups[group] = _group(verb.group_help)
            groups[group].callback()(lambda: None)
            root.add_typer(groups[group], name=group)
        groups[group].command(name)(command(verb.run))
    return root


app = make_app()


def main() -> None:
    """Run the command line. ``HYBRID_DEBUG=1`` shows the traceback of an error."""
    settle_process()
    try:
        # Not app(): that would have typer's own hook print tracebacks.
        sys.exit(typer.main.get_command(app)(standalone_mode=False))
    except typer.Abort:
        echo("Aborted!", err=True)
        sys.exit(EXIT_FAILED)
    except Exception as exc:
        if hasattr(exc, "format_message"):  # its class is click's, or that of typer's own copy of it
            _show_usage_error(exc)
            sys.exit(EXIT_USAGE)
        if not isinstance(exc, HybridError | OSError) or os.environ.get("HYBRID_DEBUG") == "1":
            raise
        echo(f"hybrid: {exc}", err=True)
        sys.exit(EXIT_USAGE if isinstance(exc, InputError) else EXIT_FAILED)


def _show_usage_error(exc: Any) -> None:
    """Print an error in the arguments. It has several lines; those within an argument must not pass for its own."""
    written = io.StringIO()
    exc.show(file=written)
    text = written.getvalue()
    for argument in sys.argv[1:]:
        for part in (argument, argument.partition("=")[2]):
            text = text if part.isprintable() else text.replace(part, printable(part))
    echo(*text.rstrip("\n").expandtabs().split("\n"), err=True)
