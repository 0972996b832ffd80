"""``hybrid doctor``: try every stage and report what is missing."""

from __future__ import annotations

from typing import Annotated

import typer

from hybrid.cli.display.text import echo, print_json_line
from hybrid.cli.from_fields import Fields
from hybrid.cli.options import JsonOption
from hybrid.cli.registry import Verb
from hybrid.options.engine import EngineOptions

__all__ = ["VERB"]

_MODEL_FIELDS = ("preset", "encoder", "sampler", "device", "dtype")


def doctor(
    engine: Annotated[EngineOptions, Fields(only=_MODEL_FIELDS)],
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the model hub.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Decode, embed, store, search and generate for real with the preset's models.

    Reports what is missing and the command that installs it; exit code 1 if something is broken.
    """
    import os

    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    from hybrid.doctor import examine

    broken = False
    for check in examine(engine):
        broken |= check.state == "broken"
        if as_json:
            print_json_line(**check.to_dict())
            continue
        # Lines, not a table: what is to be typed must not be cut into columns.
        echo(f"{check.state:8} {check.name:16} {check.seconds:6.2f} s  {check.found}")
        if check.remedy:
            echo(f"{'':8} to mend it: {check.remedy}")
    if broken:
        raise typer.Exit(1)


VERB = Verb("doctor", doctor)
