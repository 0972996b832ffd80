"""``hybrid remove``: delete videos from an archive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
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

_FAILED_AND_GONE = "it could not be indexed, and is not there any more"


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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be removed, and why.")] = False,
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    as_json: JsonOption = False,
) -> None:
    """Delete videos from an archive: their indexes, the features of their frames, and records of failed attempts."""
    from indexes.archive.source_location import check_folders
    from indexes.open_archive import open_archive

    _check(archive, videos, missing=gone, even_if_folders_are_missing=even_if_folders_are_missing)
    with open_archive(archive, create=False) as opened:
        plan = _Plan()
        plan.add_given(opened, videos or [])
        if gone:
            plan.add_missing(opened)
        if dry_run:
            for video, video_id, reason in plan.indexed_and_missing():
                _print("would_remove", video, video_id, reason, as_json=as_json)
        if not even_if_folders_are_missing:
            check_folders(plan.missing_locations)
        if not dry_run:
            plan.remove(opened, as_json=as_json)
        if gone and not plan.missing_locations and not as_json:
            echo("no video is gone")
    if plan.errors:
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


@dataclass(slots=True)
class _Plan:
    """What is to be removed.

    Attributes:
        indexed: the name and the reason of each indexed video, by content id.
        records: of failed attempts at videos that the caller gave.
        only_records: those of them that have no index.
        missing_records: of failed attempts at videos that are missing.
        missing_locations: where each missing video was.
        errors: how many videos cannot be removed.
    """

    indexed: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    records: list[Failure] = field(default_factory=list)
    only_records: list[Failure] = field(default_factory=list)
    missing_records: list[Failure] = field(default_factory=list)
    missing_locations: list[tuple[str, ...]] = field(default_factory=list)
    errors: int = 0

    def add_given(self, archive: Archive, videos: list[str]) -> None:
        """Videos that the caller gave; an error is printed for each that the archive does not know."""
        from indexes.archive.lookup import find_id
        from indexes.format.failures import failures

        recorded = {record.path: record for record in failures(archive.folder)}
        for video in videos:
            record = recorded.get(_absolute(video))
            self.records += [] if record is None else [record]
            try:
                self.indexed[find_id(archive, video)] = (video, None)
            except HybridError as exc:
                # A video that only failed has no index; any other reason is one for not doing what was asked.
                if record is None or not isinstance(exc, VideoNotIndexedError):
                    self.fail(str(exc))
                else:
                    self.only_records.append(record)

    def add_missing(self, archive: Archive) -> None:
        """All videos that are not where they were."""
        from indexes.archive.source_location import missing_videos, path_exists
        from indexes.format.failures import failures

        for manifest, reason in missing_videos(archive, list(archive.manifests())):
            self.indexed[manifest.video_id] = (manifest.source.path, reason)
            self.missing_locations.append(tuple(manifest.source.locations))
        self.missing_records = [record for record in failures(archive.folder) if not path_exists(record.path)]
        self.missing_locations += [(record.path,) for record in self.missing_records]

    def indexed_and_missing(self) -> Iterator[tuple[str, str | None, str | None]]:
        """Path, content id and reason of each."""
        for video_id, (video, reason) in self.indexed.items():
            yield video, video_id, reason
        for record in self.missing_records:
            yield record.path, record.video_id, _FAILED_AND_GONE

    def remove(self, archive: Archive, *, as_json: bool) -> None:
        """Do it, and print each."""
        from indexes.format.failures import forget_failure

        for record in (*self.records, *self.missing_records):
            forget_failure(archive.folder, record.video_id, record.path, drop=archive.drop_file)
        for record in self.only_records:
            _print("removed", record.path, record.video_id, "only a failed attempt", as_json=as_json)
        for record in self.missing_records:
            _print("removed", record.path, record.video_id, _FAILED_AND_GONE, as_json=as_json)
        for video_id, (video, reason) in self.indexed.items():
            try:
                archive.remove(video_id)
            except ArchiveLockedError as exc:
                self.fail(f"{video}: {exc}")
                continue
            forget_failure(archive.folder, video_id, _absolute(video), drop=archive.drop_file)
            _print("removed", video, video_id, reason, as_json=as_json)

    def fail(self, message: str) -> None:
        """Count a video that cannot be removed, and print why."""
        self.errors += 1
        echo(f"failed   {message}", err=True)


def _absolute(video: str) -> str:
    from pathlib import Path

    from hybrid.storage.file_identity import absolute_path

    return absolute_path(Path(video).expanduser())


def _print(event: str, video: str, video_id: str | None, reason: str | None, *, as_json: bool) -> None:
    because = f": {reason}" if reason else ""
    text = f"{event.replace('_', ' '):<8} {video}{because}"
    report(text, as_json=as_json, event=event, video=video, video_id=video_id, reason=reason)
