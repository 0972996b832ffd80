"""A real S3-compatible server on loopback, and empty buckets in it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

_numbers = count()

Machine = Callable[[str], None]


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Where the server listens. Tests that need it are skipped where it cannot start."""
    for package in ("moto", "flask", "obstore", "lancedb"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"no S3-compatible server: {package} is not installed (pip install 'hybrid[dev]')")
    process = start_server()
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address.startswith("http://"):
            pytest.skip(f"the S3-compatible server did not start (exit code {process.wait()})")
        yield address
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


@pytest.fixture
def machine(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this process believe that it runs on the machine of a name, with access to the server."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in credentials(s3_endpoint).items():
        monkeypatch.setenv(name, value)

    def become(name: str) -> None:
        monkeypatch.setenv("HYBRID_CACHE", str(tmp_path / f"machine-{name}"))

    become("one")
    return become


@pytest.fixture
def uri(s3_endpoint: str, machine: Machine) -> str:
    """A prefix in a bucket of its own, with nothing below it."""
    bucket = f"bucket-{next(_numbers)}"
    make_bucket(s3_endpoint, bucket)
    return f"s3://{bucket}/my/videos"


def start_server() -> subprocess.Popen[str]:
    """A server; the first line of its output is its address."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.remote.s3_server"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def make_bucket(endpoint: str, bucket: str) -> None:
    """An empty bucket."""
    request = urllib.request.Request(f"{endpoint}/{bucket}", data=b"", method="PUT")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        assert answer.status == 200


def credentials(endpoint: str) -> dict[str, str]:
    """The environment that lets a process use the server."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "NO_PROXY": "127.0.0.1",
    }
