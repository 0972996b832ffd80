"""Bring the index of one video up to date: nothing is left to do, or its features, or all of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from hybrid.engine.checking import frames_changed
from hybrid.engine.features.encoder import Tower, features_unavailable_reason
from hybrid.engine.features.store import fill_features, is_complete
from hybrid.engine.frames.decode_ahead import VideoPrefetcher
from hybrid.engine.index.indexing import FeatureWriter, IndexJob, IndexResult, index_video, source_of, unchanged
from hybrid.engine.models import ModelPool
from hybrid.engine.settings import requested_config
from hybrid.engine.videos import identify, stored_manifest
from hybrid.errors import InputError, MissingDependencyError, ModelError, VideoError
from hybrid.fine.interface import FeatureModel
from hybrid.fine.known_weights import KnownWeights
from hybrid.frames.rules import FRAME_RULES
from hybrid.progress import Progress
from hybrid.runtime import model_errors
from indexes.archive.writer import Archive
from indexes.format.manifest import Manifest, differences

__all__ = ["update_index"]


def update_index(
    archive: Archive,
    models: ModelPool,
    path: Path,
    *,
    prefetcher: VideoPrefetcher,
    following: Sequence[Path],
    features: bool | None,
    progress: Progress,
    lock_seconds: float,
) -> IndexResult:
    """Index a video, unless its index is there already with the configuration that is requested.

    Args:
        archive: where to.
        models: what encodes its frames.
        path: file or folder.
        prefetcher: may have begun to decode it.
        following: the videos that will be indexed next.
        features: whether GenS's vision encoder runs too; None: if the caller named a sampler.
        progress: is told how far it is.
        lock_seconds: how long to wait for another process that writes this video.

    Raises:
        VideoError: the video cannot be opened or decoded.
        ModelError: the encoder cannot be loaded, or runs out of memory; or GenS, if ``features``.
        InputError: ``features``, and GenS's cannot be stored.
        ArchiveError: the archive cannot be written, or another process holds it.
    """
    progress.start(str(path))
    progress.stage("hash")
    video_id = identify(archive, path)
    progress.stage("load")
    with archive.lock(video_id, timeout=lock_seconds):
        stored = stored_manifest(archive, video_id)
        encoder = models.encoder_for(stored)
        kind = "folder" if path.is_dir() else "file"
        requested = requested_config(models.settings, encoder.identity, kind=kind, stored=stored)
        other_frames = None if stored is None else frames_changed(stored, path)
        current = archive.up_to_date(video_id, requested) if other_frames is None else None
        if current is not None:
            # The video may have been moved: it is found by its content, but people read the path.
            archive.note_source(video_id, source_of(path), frame_rules=FRAME_RULES)
            result = _add_features(unchanged(str(path), current), archive, models, current, path, features, progress)
            progress.finish("unchanged")
            return result
        encoder = models.encoder_for(None)
        requested = requested.model_copy(update={"encoder": dict(encoder.identity)})
        changed = tuple(differences(stored.config, requested)) if stored is not None else ()
        if other_frames is not None:
            changed = (*changed, f"frames: {other_frames}")
        scorer, why_not = _scorer_for_features(models, features)
        with ExitStack() as stack:
            writer = None
            if scorer is not None:
                tower = stack.enter_context(Tower(scorer))
                staged = stack.enter_context(archive.stage_features(video_id, tower.spec))
                writer = FeatureWriter(tower, staged, must=features is True)
            result = index_video(
                IndexJob(archive, video_id, path, requested, progress, prefetcher, following),
                encoder,
                changed=changed,
                other_frames=other_frames is not None,
                features=writer,
            )
    progress.finish("indexed")
    return replace(result, features_note=result.features_note or why_not)


def _add_features(
    result: IndexResult,
    archive: Archive,
    models: ModelPool,
    manifest: Manifest,
    path: Path,
    features: bool | None,
    progress: Progress,
) -> IndexResult:
    """Make what an index that is up to date lacks of features."""
    if features is None and models.chose_fine_model and _has_features(archive, models, manifest):
        return result
    scorer, why_not = _scorer_for_features(models, features)
    if scorer is None:
        return replace(result, features_note=why_not)
    started = time.perf_counter()
    try:
        count = fill_features(archive, manifest, path, scorer, progress=progress)
    except (ModelError, VideoError) as exc:
        if features:
            raise
        return replace(result, features_note=f"features were not made: {exc}")
    seconds = {**result.seconds, "features": time.perf_counter() - started} if count else result.seconds
    return replace(result, features=count, seconds=seconds)


def _has_features(archive: Archive, models: ModelPool, manifest: Manifest) -> bool:
    """Whether every frame has features of the sampler; no model is loaded to look."""
    lists = archive.feature_lists(manifest)
    timeline = archive.timeline(manifest) if lists else None
    if timeline is None:
        return False
    whole = [listed for listed in lists if is_complete(listed.present, timeline)]
    weights = KnownWeights(archive.folder)
    try:
        return any(models.made_features(listed.spec.identity, weights) for listed in whole)
    except (ModelError, InputError):  # is said where it is to be loaded
        return False


def _scorer_for_features(models: ModelPool, features: bool | None) -> tuple[FeatureModel | None, str | None]:
    """The scorer whose features are to be made at index time, or None; and why not, where that is news.

    Raises:
        HybridError: they were asked for, and cannot be made.
    """
    if not (models.chose_fine_model if features is None else features):
        return None, None
    try:
        with model_errors("the sampler"):
            scorer = models.fine_model()
    except (ModelError, MissingDependencyError) as exc:
        if features:
            raise
        return None, f"features were not made: {exc}"
    why_not = features_unavailable_reason(scorer)
    if isinstance(scorer, FeatureModel) and why_not is None:
        return scorer, None
    if features:
        raise InputError(f"features cannot be stored: {why_not}; leave out --features")
    return None, f"features were not made: {why_not}"
