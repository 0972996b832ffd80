"""``hybrid compact``: free disk space."""

from __future__ import annotations

from hybrid.cli.display.text import echo, print_json_line, size
from hybrid.cli.options import DEFAULT_ARCHIVE, ArchiveOption, JsonOption
from hybrid.cli.registry import Verb
from hybrid.formatting import plural

__all__ = ["VERB"]


def compact(archive: ArchiveOption = DEFAULT_ARCHIVE, as_json: JsonOption = False) -> None:
    """Free the disk space of what was replaced, removed or left over."""
    from indexes.maintenance.stats import compact_archive
    from indexes.open_archive import open_archive

    with open_archive(archive, create=False) as opened:
        done = compact_archive(opened)
    if as_json:
        print_json_line(**done.to_dict())
        return
    echo(f"{size(done.bytes_before)} in {plural(done.files_before, 'file')} before")
    echo(f"{size(done.bytes_after)} in {plural(done.files_after, 'file')} now")
    if done.swept:
        echo(f"leftovers of {plural(done.swept, 'video')} were deleted")
    if done.note:
        echo(done.note)


VERB = Verb("compact", compact)
