"""Where an archive is: a folder of this machine, or a prefix in an object store."""

from __future__ import annotations

import os
import re
from pathlib import Path

import blake3

from hybrid.errors import InputError

__all__ = ["check_uri", "is_remote", "local_folder", "working_folder"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_URI = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()=-]+)*/?")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def is_remote(location: str | Path) -> bool:
    """Whether an archive's location is meant as a URI, legal or not.

    >>> is_remote("s3://bucket/videos"), is_remote("archive"), is_remote("/data/a:/b")
    (True, False, False)
    """
    return _SCHEME.match(str(location)) is not None


def check_uri(location: str | Path) -> str:
    """The URI in its one form, without a slash at the end.

    >>> check_uri("s3://bucket/videos/")
    's3://bucket/videos'

    Raises:
        InputError: it is not of the form ``s3://BUCKET/PREFIX``.
    """
    text = str(location)
    if isinstance(location, Path):
        raise InputError(f"archive is {text!r}, a Path, in which a URI loses a slash; give the URI as a text")
    if not _URI.fullmatch(text) or {".", ".."} & set(text.split("/")):
        raise InputError(
            f"archive is {text!r}; legal are a folder, or s3://BUCKET/PREFIX with a bucket of 3 to 63 small letters, "
            "digits, dots and hyphens, the first and the last a letter or digit, and a prefix of letters, digits and "
            "-_.=!*'()"
        )
    return text.rstrip("/")


def local_folder(location: str | Path) -> Path:
    """The folder, absolute, so that a later change of the working directory does not matter."""
    return Path(os.path.abspath(Path(location).expanduser()))


def working_folder(uri: str) -> Path:
    """Where this machine keeps its copies of a remote archive's small files, its locks and caches.

    Below ``HYBRID_CACHE``, or the user's cache folder. The same URI names another archive where the
    environment names another endpoint, so that counts too.
    """
    import platformdirs

    root = os.environ.get("HYBRID_CACHE") or platformdirs.user_cache_dir("hybrid")
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
    name = blake3.blake3(f"{endpoint}\n{uri}".encode()).hexdigest(length=16)
    return local_folder(root) / "archives" / name
