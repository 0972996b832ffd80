"""Put the verbs together, and turn errors into one readable line and an exit code."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any

import typer

from hybrid import __version__
from hybrid.cli.ask import ask
from hybrid.cli.convert_gens import convert_gens
from hybrid.cli.demo import demo
from hybrid.cli.doctor import doctor
from hybrid.cli.features import features
from hybrid.cli.index import index
from hybrid.cli.list import list_videos
from hybrid.cli.maintenance import compact, remove, stats, verify
from hybrid.cli.search import search
from hybrid.cli.selectors import list_selectors
from hybrid.cli.text import echo, printable
from hybrid.cli.transfer import convert, export_video, import_videos
from hybrid.errors import HybridError, InputError
from hybrid.runtime import settle_process

__all__ = ["app", "main"]

EXIT_FAILED = 1
EXIT_USAGE = 2

app = typer.Typer(
    name="hybrid",
    help="Index a video once, then ask it many questions: CLIP finds candidates, GenS reads them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        echo(f"hybrid {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


app.command("index")(index)
app.command("ask")(ask)
app.command("search")(search)
app.command("list")(list_videos)
app.command("stats")(stats)
app.command("verify")(verify)
app.command("compact")(compact)
app.command("remove")(remove)
app.command("export")(export_video)
app.command("import")(import_videos)
app.command("convert")(convert)
app.add_typer(features, name="features")
app.command("selectors")(list_selectors)
app.command("convert-gens")(convert_gens)
app.command("doctor")(doctor)
app.command("demo")(demo)


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
