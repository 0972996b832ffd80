"""``hybrid doctor``: try the real path and say what is missing."""

from __future__ import annotations

from typing import Annotated

import typer

from hybrid.cli.options import (
    DEFAULT_PRESET,
    DeviceOption,
    DtypeOption,
    EncoderOption,
    JsonOption,
    PresetOption,
    SamplerOption,
)

__all__ = ["doctor"]


def doctor(
    preset: PresetOption = DEFAULT_PRESET,
    encoder: EncoderOption = None,
    sampler: SamplerOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the model hub.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Decode, embed, store, search and generate for real with the preset's models.

    Says what is missing and the command that mends it; exit code 1 if something is broken.
    """
    import os

    from rich.console import Console
    from rich.table import Table

    from hybrid.cli.progress import print_json_line
    from hybrid.cli.text import plain

    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    from hybrid.doctor import examine

    table = Table("check", "", "what was found", "seconds", "to mend it", title=f"preset {preset}")
    broken = False
    for check in examine(preset=preset, encoder=encoder, sampler=sampler, device=device, dtype=dtype):
        broken |= check.state == "broken"
        if as_json:
            print_json_line(**check.to_dict())
        else:
            table.add_row(
                check.name, check.state, plain(check.found), f"{check.seconds:.2f}", plain(check.remedy or "")
            )
    if not as_json:
        Console().print(table)
    if broken:
        raise typer.Exit(1)
