"""``hybrid remove``: delete videos from an archive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from hybrid.cli.display.text import echo, report
from hybrid.cli.options import DEFAULT_ARCHIVE, ArchiveOption, JsonOption
from hybrid.cli.registry import Verb
from hybrid.errors import ArchiveLockedError, HybridError, InputError, VideoNotIndexedError

if TYPE_CHECKING:
    from indexes.archive.writer import Archive
    from indexes.format.failures import Failure

__all__ = ["VERB"]


def remove(
    videos: Annotated[list[str] | None, typer.Argument(help="Paths or content ids.")] = None,
    missing: Annotated[
        bool, typer.Option("--gone", help="All videos that are not where they were (moved ones: index them first).")
    ] = False,
    even_if_folders_are_missing: Annotated[
        bool,
        typer.Option(
            "--even-if-folders-are-missing",
            help="With --gone: also videos whose whole folder is missing or empty, as where a disk is not mounted.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be removed, and why.")] = False,
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    as_json: JsonOption = False,
) -> None:
    """Delete videos from an archive: their indexes, the features of their frames, and records of failed attempts."""
    from indexes.archive.source_location import check_folders
    from indexes.open_archive import open_archive

    _check(archive, videos, missing=missing, even_if_folders_are_missing=even_if_folders_are_missing)
    with open_archive(archive, create=False) as opened:
        given, errors = _given_videos(opened, videos or [])
        lost = _missing_videos(opened) if missing else []
        removals = {each.video_id: each for each in (*given, *lost) if each.indexed}
        records = [each for each in (*given, *lost) if not each.indexed]
        if dry_run:
            for each in (*removals.values(), *(each for each in records if each in lost)):
                each.print("would_remove", as_json=as_json)
        if not even_if_folders_are_missing:
            check_folders([each.locations for each in lost])
        if not dry_run:
            for each in (*records, *removals.values()):
                errors += not each.remove(opened, as_json=as_json)
        if missing and not lost and not as_json:
            echo("no video is gone")
    if errors:
        raise typer.Exit(1)


VERB = Verb("remove", remove)


def _check(archive: str, videos: list[str] | None, *, missing: bool, even_if_folders_are_missing: bool) -> None:
    """Refuse options that do not go together, before the archive is opened."""
    from indexes.format.location import is_remote

    if not videos and not missing:
        raise InputError("say which videos to remove, or --gone for those that are not where they were")
    if even_if_folders_are_missing and not missing:
        raise InputError(
            "--even-if-folders-are-missing is for --gone, which looks where videos lie; videos that are named are "
            "removed wherever they lie: leave it out, or add --gone"
        )
    if missing and is_remote(archive):
        raise InputError(
            f"--gone looks whether videos lie where they were indexed, and {archive} may have been written from other "
            "machines; name the videos to remove"
        )


@dataclass(frozen=True, slots=True)
class _Removal:
    """One video that is to be removed.

    Attributes:
        name: as the caller gave it, or its path.
        video_id: its content id, if that is known.
        reason: why, for people; None if the caller gave it.
        record: of a failed attempt at it.
        indexed: whether it has an index.
        locations: where it was, if it is missing.
    """

    name: str
    video_id: str | None
    reason: str | None = None
    record: Failure | None = None
    indexed: bool = True
    locations: tuple[str, ...] = ()

    def remove(self, archive: Archive, *, as_json: bool) -> bool:
        """Delete its index and its record, and print that; False if another process holds it."""
        from indexes.format.failures import forget_failure

        if self.record is not None:
            forget_failure(archive.folder, self.record.video_id, self.record.path, drop=archive.drop_file)
        if self.indexed and self.video_id is not None:
            try:
                archive.remove(self.video_id)
            except ArchiveLockedError as exc:
                echo(f"failed   {self.name}: {exc}", err=True)
                return False
            forget_failure(archive.folder, self.video_id, _absolute(self.name), drop=archive.drop_file)
        self.print("removed", as_json=as_json)
        return True

    def print(self, event: str, *, as_json: bool) -> None:
        """Print what happens to it."""
        text = f"{event.replace('_', ' '):<8} {self.name}{f': {self.reason}' if self.reason else ''}"
        report(text, as_json=as_json, event=event, video=self.name, video_id=self.video_id, reason=self.reason)


def _given_videos(archive: Archive, videos: list[str]) -> tuple[list[_Removal], int]:
    """Videos that the caller gave, and how many the archive does not know: each is named with the reason."""
    from indexes.archive.lookup import find_id
    from indexes.format.failures import failures

    recorded = {record.path: record for record in failures(archive.folder)}
    found, errors = [], 0
    for video in videos:
        record = recorded.get(_absolute(video))
        try:
            found.append(_Removal(video, find_id(archive, video), record=record))
        except HybridError as exc:
            # A video that only failed has no index; any other reason is one for not doing what was asked.
            if record is not None and isinstance(exc, VideoNotIndexedError):
                reason = "only a failed attempt"
                found.append(_Removal(record.path, record.video_id, reason, record=record, indexed=False))
                continue
            errors += 1
            echo(f"failed   {exc}", err=True)
    return found, errors


def _missing_videos(archive: Archive) -> list[_Removal]:
    """All videos that are not where they were."""
    from indexes.archive.source_location import missing_videos, path_exists
    from indexes.format.failures import failures

    indexed = [
        _Removal(manifest.source.path, manifest.video_id, reason, locations=tuple(manifest.source.locations))
        for manifest, reason in missing_videos(archive, list(archive.manifests()))
    ]
    reason = "it could not be indexed, and is not there any more"
    return indexed + [
        _Removal(record.path, record.video_id, reason, record=record, indexed=False, locations=(record.path,))
        for record in failures(archive.folder)
        if not path_exists(record.path)
    ]


def _absolute(video: str) -> str:
    from pathlib import Path

    from hybrid.storage.file_identity import absolute_path

    return absolute_path(Path(video).expanduser())
