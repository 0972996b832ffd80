"""The approximate index of an archive, with the sample questions that its recall is measured by.

Recall has to be measured with vectors of text: vectors of images lie elsewhere and are found far more easily.
The questions are plain descriptions of what videos show, encoded once for each encoder and stored
beside the index, so that ``hybrid stats`` needs no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from hybrid.clip.interface import FrameEncoder
from hybrid.storage.atomic import write_errors
from indexes.ann.files import ApproximateFiles
from indexes.archive.writer import Archive
from indexes.format.manifest import Manifest
from indexes.maintenance.build_ann import ApproximateUpdate, update_approximate
from indexes.maintenance.recall import encoder_key, store_queries

__all__ = ["SAMPLE_QUESTIONS", "refresh_approximate"]

SAMPLE_QUESTIONS = (
    "a red car drives down the street",
    "two people talk at a table",
    "a whiteboard with a diagram",
    "a dog runs on the beach",
    "someone chops vegetables in a kitchen",
    "a slide with a bar chart",
    "a man in a dark suit at a desk",
    "a crowd in a stadium",
    "the title of the film on a black background",
    "a close-up of hands typing on a keyboard",
    "an aeroplane takes off",
    "snow on a mountain",
    "a child opens a present",
    "night traffic in a city, seen from above",
    "a woman speaks into a microphone",
    "an empty corridor",
)


def refresh_approximate(
    archive: Archive,
    encoder_for: Callable[[Manifest], FrameEncoder],
    changes: Callable[[FrameEncoder, Manifest], Sequence[str]],
    *,
    from_frames: int | None = None,
) -> list[ApproximateUpdate]:
    """Bring the approximate index up to date, and store sample questions for an encoder that has none.

    Args:
        archive: whose.
        encoder_for: gives the encoder for videos like the given one; only called if questions are to be encoded.
        changes: what sets a video's encoder apart from that one; none if it is the same.
        from_frames: make an approximate index from so many frames of one dimension on, by default
            :data:`indexes.maintenance.build_ann.FROM_FRAMES`.

    Raises:
        ArchiveLockedError: another process does this.
        ArchiveError: the archive cannot be written.
        ModelError: the encoder cannot be loaded.
    """
    updates = update_approximate(archive, from_frames=from_frames)
    for update in updates:
        manifest = _most_common([found for found in archive.manifests() if found.dimension == update.dimension])
        if manifest is None or not update.covered_frames:
            continue
        files = ApproximateFiles(archive.folder, update.dimension)
        if files.queries(encoder_key(manifest.config.encoder)) is not None:
            continue
        encoder = encoder_for(manifest)
        if changes(encoder, manifest):
            continue  # whoever indexes with that encoder stores its questions
        vectors = np.stack([encoder.encode_text(question).vector for question in SAMPLE_QUESTIONS])
        with write_errors(f"archive {archive.folder}: sample questions could not be written"):
            store_queries(archive, manifest, vectors)
    return updates


def _most_common(manifests: Sequence[Manifest]) -> Manifest | None:
    """A video of the encoder that most of them have."""
    count = Counter(encoder_key(manifest.config.encoder) for manifest in manifests)
    if not count:
        return None
    encoder = max(sorted(count), key=lambda name: count[name])
    return next(manifest for manifest in manifests if encoder_key(manifest.config.encoder) == encoder)
