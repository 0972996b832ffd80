"""``hybrid demo``: the whole way on a clip made on the spot, with models that need no hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hybrid.cli.ask import ask
from hybrid.cli.index import index

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the clip, the archive and the results.")] = Path(
        "demo-out"
    ),
) -> None:
    """Index a short clip made on the spot, and ask it a question, with the tiny preset.

    The tiny models are untrained: this shows that every stage runs, not that it finds the answer.
    """
    from hybrid.demo import DEMO_QUESTION, write_demo_clip

    clip, archive, sheet = out / "clip.mp4", out / "archive", out / "sheet.png"
    if not clip.exists():
        write_demo_clip(clip)
    typer.echo(f"$ hybrid index {clip} --archive {archive} --preset tiny")
    index([str(clip)], archive=archive, preset="tiny")
    options = f"--archive {archive} --preset tiny --frames 12 --sheet {sheet} --frames-dir {out / 'frames'}"
    typer.echo(f'$ hybrid ask {clip} "{DEMO_QUESTION}" {options}')
    ask(str(clip), DEMO_QUESTION, archive=archive, preset="tiny", frames=12, sheet=sheet, frames_dir=out / "frames")
    typer.echo(
        "The tiny models are small and untrained: every stage ran through the code of the real models, but\n"
        "the frames above are no answer. For answers: hybrid ask VIDEO QUESTION --preset gens-3b\n"
        "(needs a model hub, and better a GPU)."
    )
