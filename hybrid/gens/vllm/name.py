"""Names of samplers that run in vLLM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from hybrid.errors import InputError

__all__ = ["VllmName", "read_vllm_name"]

_PREFIX = "vllm:"
_FORM = "vllm:CHECKPOINT, or vllm:http://HOST:PORT/v1#CHECKPOINT"


@dataclass(frozen=True, slots=True)
class VllmName:
    """Where vLLM runs, and with what.

    Attributes:
        checkpoint: folder or hub name.
        address: base of a server's routes, such as ``http://localhost:8000/v1``; None for this process.
    """

    checkpoint: str
    address: str | None = None

    def __str__(self) -> str:
        place = "" if self.address is None else f"{self.address}#"
        return f"{_PREFIX}{place}{self.checkpoint}"


def read_vllm_name(name: str | Path) -> VllmName | None:
    """Take a sampler's name apart; None if it is no name of this kind.

    Raises:
        InputError: it begins like one, but is not complete, or holds a user, a password or a query
            (which its text does not repeat).
    """
    text = str(name)
    if isinstance(name, Path) or not text.startswith(_PREFIX):
        return None
    rest = text.removeprefix(_PREFIX)
    if "://" not in rest:
        if not rest:
            raise InputError(f"the sampler is {text!r}, which names no checkpoint; write {_FORM}")
        return VllmName(checkpoint=rest)
    address, _, checkpoint = rest.partition("#")
    address = address.rstrip("/")
    _check_address(address)
    if not checkpoint:
        raise InputError(
            f"the sampler is {text!r}, which names no checkpoint; write {_FORM}: its vision tower and its tokenizer "
            "are needed here too"
        )
    return VllmName(checkpoint=checkpoint, address=address)


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        bare = parts.username is None and parts.password is None and not parts.query
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError as exc:
        raise InputError(f"the address of the vLLM server cannot be read: {exc}; write {_FORM}") from exc
    if not bare:
        raise InputError(
            "the address of a vLLM server must hold no user, no password and no query, because it is kept with every "
            "answer; put the server's key into the environment variable VLLM_API_KEY"
        )
    if not usable:
        raise InputError(f"the address of the vLLM server is {address!r}; write {_FORM}")
