"""Put the verbs together, and turn errors into one readable line and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from hybrid import __version__
from hybrid.cli.ask import ask
from hybrid.cli.care import compact, remove, stats, verify
from hybrid.cli.convert_gens import convert_gens
from hybrid.cli.demo import demo
from hybrid.cli.doctor import doctor
from hybrid.cli.features import features
from hybrid.cli.index import index
from hybrid.cli.list import list_videos
from hybrid.cli.search import search
from hybrid.cli.selectors import list_selectors
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
        typer.echo(f"hybrid {__version__}")
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
        app()
    except HybridError as exc:
        if os.environ.get("HYBRID_DEBUG") == "1":
            raise
        typer.echo(f"hybrid: {exc}", err=True)
        sys.exit(EXIT_USAGE if isinstance(exc, InputError) else EXIT_FAILED)
    except OSError as exc:
        if os.environ.get("HYBRID_DEBUG") == "1":
            raise
        typer.echo(f"hybrid: {exc}", err=True)
        sys.exit(EXIT_FAILED)
