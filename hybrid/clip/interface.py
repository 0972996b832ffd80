"""What every encoder of frames and questions promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from hybrid.values import ByteArray, Float32Array

__all__ = ["EncoderKind", "FrameEncoder", "LoadEncoder", "TextVector"]


@dataclass(frozen=True, slots=True, eq=False)
class TextVector:
    """A question as a unit vector.

    Attributes:
        vector: float32 [D], length 1.
        tokens: how many tokens the text has, start and end marks included.
        context_length: how many the encoder reads.
    """

    vector: Float32Array
    tokens: int
    context_length: int

    @property
    def note(self) -> str | None:
        """What the reader should know if the text did not fit; None if it did."""
        if self.tokens <= self.context_length:
            return None
        return (
            f"the text encoder reads {self.context_length} tokens and the question has {self.tokens}: "
            "the coarse stage did not see its end"
        )


class FrameEncoder(Protocol):
    """What the engine needs of an encoder."""

    @property
    def name(self) -> str:
        """The name that it was loaded by."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything that decides a vector; vectors of equal identities may be compared."""
        ...

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    def encode_frames(self, frames: Iterable[ByteArray]) -> Iterator[Float32Array]:
        """Unit vectors of frames (uint8 [H, W, 3] RGB) in order, as float32 [n, D] blocks."""
        ...

    def encode_text(self, text: str) -> TextVector:
        """The unit vector of a text."""
        ...


class LoadEncoder(Protocol):
    """Loads an encoder of one kind; see :func:`hybrid.clip.registry.load_encoder` for the arguments and errors."""

    def __call__(self, name: str, *, device: str, dtype: str, batch_size: int | None) -> FrameEncoder: ...


@dataclass(frozen=True, slots=True)
class EncoderKind:
    """An entry of the registry of encoders.

    Attributes:
        name: its own name: what stands before the colon in an encoder's name, and ``encoder`` in its identity.
        load: loads one.
        identity_of_name: the part of an encoder's identity that its name alone tells, with ``model`` and without
            ``encoder``; loads nothing.
        name_of_identity: the name, as ``--encoder`` takes it, of an encoder with an identity; default: ``KIND:MODEL``.
    """

    name: str
    load: LoadEncoder
    identity_of_name: Callable[[str], Mapping[str, str]]
    name_of_identity: Callable[[Mapping[str, object]], str] = "{0[encoder]}:{0[model]}".format
