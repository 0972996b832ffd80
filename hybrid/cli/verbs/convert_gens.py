"""``hybrid convert-gens``: GenS's original checkpoint on Aria, made loadable without its own code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hybrid.cli.display.text import echo, print_json_line, terminal
from hybrid.cli.options import JsonOption
from hybrid.cli.registry import Verb
from hybrid.formatting import plural

__all__ = ["VERB"]


def convert_gens(
    source: Annotated[str, typer.Argument(help="Folder with GenS's original files, or its hub name (yaolily/GenS).")],
    dest: Annotated[Path, typer.Argument(help="Folder for the result; made if it is not there.")],
    shard_gigabytes: Annotated[
        float, typer.Option("--shard-gigabytes", min=0.001, max=1000, help="The largest file of weights.")
    ] = 4.0,
    as_json: JsonOption = False,
) -> None:
    """Convert GenS's original checkpoint on Aria for transformers, once; then: ask --preset gens-aria --sampler DEST.

    Needs room for as much again as the weights take (51 GB), and little memory. Stopped at any
    moment, the same command goes on; run again when it is complete, it does nothing.
    """
    from hybrid.fine.aria.convert.convert import convert_gens as convert

    with _Bar(quiet=as_json) as bar:
        done = convert(source, dest, shard_bytes=int(shard_gigabytes * 1e9), tell=bar.show)
    if as_json:
        print_json_line(
            event="done",
            folder=str(done.folder),
            parameters=done.parameters,
            weight_bytes=done.weight_bytes,
            files=done.files,
            files_kept=done.files_kept,
            norm_topk_prob=done.norm_topk_prob,
            needs=str(done.needs),
            seconds=round(done.seconds, 3),
        )
        return
    before = f", {done.files_kept} of them there before" if done.files_kept else ""
    size = f"{done.parameters / 1e9:.2f} billion parameters, {done.weight_bytes / 1e9:.1f} GB"
    echo(f"{dest}: {size} in {plural(done.files, 'file')}{before}, {done.seconds:.1f} s")
    echo(f"to run it takes {done.needs}")
    echo(f"hybrid ask VIDEO QUESTION --preset gens-aria --sampler {dest}")


VERB = Verb("convert-gens", convert_gens)


class _Bar:
    """Bytes written, on standard error; nothing in a file or a pipe."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        console = terminal(stderr=True)
        self._bar = Progress(
            BarColumn(bar_width=None),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)

    def show(self, done: int, total: int) -> None:
        """So many bytes of so many are written."""
        self._bar.update(self._task, completed=done, total=total)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
