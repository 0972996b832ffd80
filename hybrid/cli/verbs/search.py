"""``hybrid search``: one question to a whole archive."""

from __future__ import annotations

from typing import Annotated

import typer

from hybrid.cli.display.text import print_json
from hybrid.cli.from_fields import Fields, Given
from hybrid.cli.options import DEFAULT_ARCHIVE, ArchiveOption, JsonOption, refuse_for_gens
from hybrid.cli.registry import Verb
from hybrid.options.ask import AskOptions
from hybrid.options.engine import EngineOptions
from hybrid.options.search import SearchOptions

__all__ = ["VERB"]

_QUESTION_FIELDS = ("frames", "window_mode", "window", "segments", "context_seconds")
_ENGINE_FIELDS = ("preset", "encoder", "sampler", "prompt", "loading", "device", "dtype")


def search(
    question: Annotated[str, typer.Argument(help="What you want to see.")],
    options: SearchOptions,
    ask: Annotated[AskOptions, Fields(only=_QUESTION_FIELDS, before_help="With --fine: ")],
    engine: Annotated[Given[EngineOptions], Fields(only=_ENGINE_FIELDS)],
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    as_json: JsonOption = False,
) -> None:
    """Search all videos of an archive, or some of them, for what a question asks.

    Small archives are searched exactly, large ones by an approximate index (hybrid stats says how well it finds).
    Videos that cannot be searched are named with the reason.
    """
    from hybrid.cli.display.answers import show_search
    from hybrid.engine import Engine

    options = options.changed(ask=ask)
    if not options.fine:
        why = "it is asked only with --fine; say about how many of the best videos (--fine 3)"
        refuse_for_gens(why, EngineOptions, engine.values)
    with Engine.open(archive, engine.read(), create=False) as opened:
        result = opened.search(question, options)
    if as_json:
        print_json(result.to_dict(), indent=2)
    else:
        show_search(result)


VERB = Verb("search", search)
