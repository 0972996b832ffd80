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
from hybrid.cli.text import echo

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

    from hybrid.cli.progress import print_json_line

    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    from hybrid.doctor import examine

    broken = False
    for check in examine(preset=preset, encoder=encoder, sampler=sampler, device=device, dtype=dtype):
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
