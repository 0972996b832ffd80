"""``hybrid convert-gens``: GenS's original checkpoint on Aria, made loadable without its own code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    with _bar(quiet=as_json) as show:
        done = convert(source, dest, shard_bytes=int(shard_gigabytes * 1e9), tell=show)
    if as_json:
        names = ("parameters", "weight_bytes", "files", "files_kept", "norm_topk_prob")
        facts = {name: getattr(done, name) for name in names}
        seconds = round(done.seconds, 3)
        print_json_line(event="done", folder=str(done.folder), **facts, needs=str(done.needs), seconds=seconds)
        return
    before = f", {done.files_kept} of them there before" if done.files_kept else ""
    size = f"{done.parameters / 1e9:.2f} billion parameters, {done.weight_bytes / 1e9:.1f} GB"
    echo(f"{dest}: {size} in {plural(done.files, 'file')}{before}, {done.seconds:.1f} s")
    echo(f"to run it takes {done.needs}")
    echo(f"hybrid ask VIDEO QUESTION --preset gens-aria --sampler {dest}")


VERB = Verb("convert-gens", convert_gens)


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar of the bytes that are written, on standard error; nothing in a file or a pipe."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = BarColumn(bar_width=None), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    console = terminal(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
