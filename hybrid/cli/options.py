"""The options that verbs share and that are of the command line alone; all others are fields of options classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import typer

from hybrid.errors import InputError
from hybrid.options.engine import GENS
from hybrid.options.field import Options, flag_of, options_of
from indexes.stores.registry import STORES

__all__ = [
    "BACKENDS",
    "DEFAULT_ARCHIVE",
    "ArchiveOption",
    "BackendOption",
    "JsonOption",
    "NewArchiveOption",
    "refuse_for_gens",
]

DEFAULT_ARCHIVE = "hybrid-archive"
BACKENDS = f"<{'|'.join(STORES.names)}>"


_ARCHIVE_HELP = "Folder with the indexes, or s3://BUCKET/PREFIX"

ArchiveOption: TypeAlias = Annotated[
    str, typer.Option("--archive", envvar="HYBRID_ARCHIVE", help=f"{_ARCHIVE_HELP}; must be there.")
]
NewArchiveOption: TypeAlias = Annotated[
    str, typer.Option("--archive", envvar="HYBRID_ARCHIVE", help=f"{_ARCHIVE_HELP}; made if it is not there.")
]
BackendOption: TypeAlias = Annotated[
    str | None, typer.Option("--backend", metavar=BACKENDS, help=f"Of a new archive.  [default: {STORES.names[0]}]")
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def refuse_for_gens(why: str, kind: type[Options], values: Mapping[str, Any], *, but: tuple[str, ...] = ()) -> None:
    """Refuse options that say how GenS is loaded or asked, where it is left out: they would decide nothing.

    Which GenS (--sampler) may be named beside an explicit no, so that one choice of models serves all commands; where
    it is left out only because nothing asked for it, whoever names it expects it, and learns what asks for it.

    Args:
        why: why GenS is left out, and what to do about it.
        kind: the options class.
        values: what is set of it, by name.
        but: options that may be set all the same.

    Raises:
        InputError: one of the class's options of the panel GenS is set.
    """
    for name, (each, about) in options_of(kind).items():
        if about.panel == GENS and name in values and name not in but:
            value = values[name]
            given = f"{flag_of(each)} is" if value is True else f"{flag_of(each)} is {str(value)!r}, which is"
            raise InputError(f"{given} for GenS, and {why}, or leave out {flag_of(each)}")
