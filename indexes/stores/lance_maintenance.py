"""When a LanceDB table is compacted, and how long what it replaces stays.

A write adds a fragment and a version whose manifest names all fragments; unbounded, that is
quadratic. Compaction merges fragments and makes a version more; the files of older versions stay
for readers that are in the middle of a query, and each of them costs every further write and query
something: after three thousand writes within ten minutes a write took three times as long.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

__all__ = ["FRAGMENTS_BEFORE_COMPACTION", "RETENTION", "REWRITTEN", "WHY_GROWN", "retention"]

FRAGMENTS_BEFORE_COMPACTION = 100

RETENTION = timedelta(minutes=10)
"""How long replaced files stay. A reader looks at the newest version for each query, so it needs
them for one query only; deleting at once was measured to fail most queries of a running reader."""

WHY_GROWN = (
    f"the vectors take more space than before, because what compacting replaced stays for {RETENTION.seconds // 60} "
    "minutes: searches may still be reading it; compact again after that to free its space"
)

CROWDED_VERSIONS = 300
CROWDED_RETENTION = timedelta(seconds=10)
"""Where so many versions lie about, because very many videos are added at once, they go sooner. A query
of one video takes a hundredth of a second; a pass over a large table that loses its version goes on
video by video (:meth:`indexes.stores.lance_store.LanceStore.search_many`)."""

REWRITTEN = (".json",)
"""What Lance writes more than once: the hint at the latest version. All else has a name of its own for each version."""


def retention(versions: Path) -> timedelta:
    """How long replaced files stay now.

    Args:
        versions: the folder in which a table keeps a file for each version; where there is none, because
            the table lies in an object store, the usual time is the answer.
    """
    try:
        crowded = len(os.listdir(versions)) > CROWDED_VERSIONS
    except OSError:
        crowded = False
    return CROWDED_RETENTION if crowded else RETENTION
