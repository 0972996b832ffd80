"""``hybrid stats``, ``verify``, ``compact``, ``remove``: look after an archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hybrid.cli.options import DEFAULT_ARCHIVE, ArchiveOption, JsonOption
from hybrid.cli.text import echo
from hybrid.errors import ArchiveLockedError, HybridError, InputError, VideoNotIndexedError
from hybrid.formatting import plural

if TYPE_CHECKING:
    from indexes.format.failures import Failure
    from indexes.maintenance.recall import Recall

__all__ = ["compact", "remove", "stats", "verify"]

_FAILED_AND_GONE = "it could not be indexed, and is not there any more"


def stats(archive: ArchiveOption = DEFAULT_ARCHIVE, as_json: JsonOption = False) -> None:
    """Say what an archive holds and what it takes on disk."""
    from hybrid.cli.progress import print_json_line
    from hybrid.cli.text import size
    from indexes.format.location import is_remote
    from indexes.maintenance.stats import archive_stats
    from indexes.open_archive import open_archive

    with open_archive(archive, create=False) as opened:
        found = archive_stats(opened)
    if as_json:
        print_json_line(**found.to_dict())
        return
    echo(f"{found.archive} ({found.backend})")
    counts = ", ".join(f"{count} {name}" for name, count in found.statuses.items() if count)
    videos, frames = plural(found.videos, "video"), plural(found.frames, "frame")
    echo(f"  {videos}, {found.hours:.2f} h, {frames}{f' ({counts})' if counts else ''}")
    for name, count in found.encoders.items():
        echo(f"  {plural(count, 'video')} with {name}")
    each = "" if found.bytes_per_frame is None else f", {found.bytes_per_frame:.0f} bytes a frame"
    parts = ", ".join(f"{kind} {size(count)}" for kind, count in found.bytes.items() if count)
    echo(f"  {size(sum(found.bytes.values()))} in {plural(found.files, 'file')}{each} ({parts})")
    echo(f"  whole-archive search: {found.search}")
    for recall in found.approximate:
        _tell_recall(recall)
    if found.missing:
        echo(f"  {plural(found.missing, 'sample')} could not be decoded")
    if found.gone:
        remedy = "" if is_remote(archive) else " (hybrid remove --gone forgets them)"
        echo(f"  {plural(found.gone, 'video is not where it was', 'videos are not where they were')}{remedy}")
    for line in found.failed:
        echo(f"  failed: {line}")


def _tell_recall(recall: Recall) -> None:
    """How well the approximate index of one dimension finds."""
    echo(
        f"    {recall.covered_frames} of {plural(recall.frames, 'frame')} of {recall.dimension} values by "
        f"{plural(recall.units, 'unit')}, "
        "the others exactly"
    )
    if recall.recall is not None and recall.exact_ms is not None and recall.approximate_ms is not None:
        echo(
            f"    of the best {recall.top} frames it finds {100 * recall.recall:.1f} % "
            f"(least {100 * (recall.least_recall or 0.0):.1f} %, {plural(recall.queries, 'sample question')}), "
            f"in {recall.approximate_ms:.1f} ms, exactly in {recall.exact_ms:.1f} ms"
        )
    elif not recall.covered_frames:
        echo("    it covers no frames yet, so there is nothing to measure: every search is exact")
    else:
        echo(
            "    how much of the best it finds is not known: no sample questions are stored for the encoder of most "
            "videos (hybrid index with that encoder stores them)"
        )
    if recall.problem:
        echo(f"    {recall.problem}")


def verify(
    videos: Annotated[list[str] | None, typer.Argument(help="Only these (paths or content ids); all if none.")] = None,
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    as_json: JsonOption = False,
) -> None:
    """Compare every stored byte with the hashes in the manifests. Exit code 1 if something is damaged."""
    from hybrid.cli.progress import print_json_line
    from indexes.archive.lookup import find_id
    from indexes.maintenance.verify import verify_archive
    from indexes.open_archive import open_archive

    sound = damaged = frames = 0
    with open_archive(archive, create=False) as opened:
        chosen = [find_id(opened, video) for video in videos] if videos else None
        for finding in verify_archive(opened, chosen):
            sound += finding.state == "sound"
            damaged += finding.state == "damaged"
            frames += finding.frames
            if as_json:
                print_json_line(**finding.to_dict())
            elif finding.state != "sound":
                echo(f"{finding.state}  {finding.video or finding.video_id}: {finding.problem}")
    if not as_json:
        echo(f"{plural(sound, 'video')} with {plural(frames, 'frame')} sound, {damaged} damaged")
    if damaged:
        raise typer.Exit(1)


def compact(archive: ArchiveOption = DEFAULT_ARCHIVE, as_json: JsonOption = False) -> None:
    """Give back the room of what was replaced, removed or left over."""
    from hybrid.cli.progress import print_json_line
    from hybrid.cli.text import size
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


def remove(
    videos: Annotated[list[str] | None, typer.Argument(help="Paths or content ids.")] = None,
    gone: Annotated[
        bool, typer.Option("--gone", help="All videos that are not where they were (moved ones: index them first).")
    ] = False,
    even_if_folders_are_missing: Annotated[
        bool,
        typer.Option(
            "--even-if-folders-are-missing",
            help="With --gone: also videos whose whole folder is missing or empty, as where a disk is not mounted.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed, and why.")] = False,
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    as_json: JsonOption = False,
) -> None:
    """Forget videos: their indexes, the features of their frames, and records of failed attempts."""
    from pathlib import Path

    from hybrid.storage.file_identity import absolute_path
    from indexes.archive.lookup import find_id
    from indexes.archive.source_location import check_folders, missing_videos, path_exists
    from indexes.format.failures import failures, forget_failure
    from indexes.format.location import is_remote
    from indexes.open_archive import open_archive

    if not videos and not gone:
        raise InputError("say which videos to remove, or --gone for those that are not where they were")
    if even_if_folders_are_missing and not gone:
        raise InputError(
            "--even-if-folders-are-missing is for --gone, which looks where videos lie; videos that are named are "
            "removed wherever they lie: leave it out, or add --gone"
        )
    if gone and is_remote(archive):
        raise InputError(
            f"--gone looks whether videos lie where they were indexed, and {archive} may have been written from other "
            "machines; name the videos to remove"
        )
    failed = 0
    with open_archive(archive, create=False) as opened:
        recorded = {record.path: record for record in failures(opened.folder)}
        chosen: dict[str, tuple[str, str | None]] = {}
        records: list[Failure] = []
        named: list[Failure] = []  # asked for by name, and nothing but a record is there
        for video in videos or ():
            record = recorded.get(absolute_path(Path(video).expanduser()))
            records += [] if record is None else [record]
            try:
                chosen[find_id(opened, video)] = (video, None)
            except HybridError as exc:
                # A video that only failed has no index; any other reason is one for not doing what was asked.
                if record is None or not isinstance(exc, VideoNotIndexedError):
                    failed += 1
                    echo(f"failed   {exc}", err=True)
                    continue
                named.append(record)
        lost = missing_videos(opened, list(opened.manifests())) if gone else []
        unread = [record for record in recorded.values() if gone and not path_exists(record.path)]
        chosen.update({manifest.video_id: (manifest.source.path, reason) for manifest, reason in lost})
        if dry_run:
            for video_id, (name, reason) in chosen.items():
                _tell_removed("would_remove", name, video_id, reason, as_json=as_json)
            for record in unread:
                _tell_removed("would_remove", record.path, record.video_id, _FAILED_AND_GONE, as_json=as_json)
        if not even_if_folders_are_missing:
            check_folders([*(manifest.source.locations for manifest, _ in lost), *([record.path] for record in unread)])
        if not dry_run:
            for record in (*records, *unread):
                forget_failure(opened.folder, record.video_id, record.path, drop=opened.drop_file)
            for record in named:
                _tell_removed("removed", record.path, record.video_id, "only a failed attempt", as_json=as_json)
            for record in unread:
                _tell_removed("removed", record.path, record.video_id, _FAILED_AND_GONE, as_json=as_json)
            for video_id, (name, reason) in chosen.items():
                try:
                    opened.remove(video_id)
                except ArchiveLockedError as exc:
                    failed += 1
                    echo(f"failed   {name}: {exc}", err=True)
                    continue
                forget_failure(opened.folder, video_id, absolute_path(Path(name).expanduser()), drop=opened.drop_file)
                _tell_removed("removed", name, video_id, reason, as_json=as_json)
        if gone and not lost and not unread and not as_json:
            echo("no video is gone")
    if failed:
        raise typer.Exit(1)


def _tell_removed(event: str, name: str, video_id: str | None, reason: str | None, *, as_json: bool) -> None:
    from hybrid.cli.progress import print_json_line

    if as_json:
        print_json_line(event=event, video=name, video_id=video_id, reason=reason)
    else:
        because = f": {reason}" if reason else ""
        echo(f"{event.replace('_', ' '):<8} {name}{because}")
