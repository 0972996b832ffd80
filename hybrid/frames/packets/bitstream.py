"""Judge key packets by their bytes: can decoding start here, with exact results?

A container's key flag is not enough. It is set on pictures after which other pictures still refer to what came
before, on the start of a gradual refresh, and on pictures that repeat the one before. Each codec's own syntax tells:

* H.264 (ITU-T H.264): an IDR picture empties the reference memory. A recovery point SEI message with
  ``recovery_frame_cnt`` 0 and ``exact_match_flag`` 1 promises that all pictures shown from there on are exact
  (open groups of pictures).
* HEVC (ITU-T H.265): no picture shown after an IRAP picture (IDR, CRA, BLA) refers to one before it. Those that
  are shown before it and decoded after it (RASL, RADL) belong to the stretch before.
* MPEG-1/2 (ISO/IEC 11172-2, 13818-2): an I picture with a sequence header before it. B pictures of an open group
  that follow it are shown before it and belong to the stretch before.
* MPEG-4 part 2 (ISO/IEC 14496-2): an I-VOP; later pictures refer to it or to each other, except B-VOPs that are
  shown before it. A VOP that is not coded repeats the picture before, whatever its type. Where two VOPs share a packet
  (packed B-frames, in AVI), packets do not tell which picture is shown when: :attr:`KeyPackets.packed`.
* VP8, VP9, AV1: a shown key frame replaces every reference. An intra-only frame of VP9 or AV1 does not.
* Codecs without prediction between pictures (:data:`INTRA_ONLY`): everywhere.

These rules are proven bit for bit against full decodes (``tests/contracts/test_frame_kinds.py``). Every other codec
(:attr:`KeyPackets.proven` is false) is decoded from the start of the file, with nothing left out, for key frames as
well: Theora, VC-1, WMV, H.263, FLV1, RealVideo, Indeo, SVQ, VP3 to VP7, AVS, VVC, FFV1 (whose contexts run on) ...
This module knows bytes, not files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

__all__ = ["INTRA_ONLY", "KeyPackets", "Verdict"]

INTRA_ONLY = frozenset({"mjpeg", "png", "bmp", "jpeg2000", "prores", "dnxhd", "rawvideo", "huffyuv", "utvideo"})
"""Codecs in which every picture stands alone."""

LEAST_INTRA_VOP_BYTES = 16
"""No I-VOP is smaller; what is, repeats the picture before it (``vop_coded`` 0)."""

NONREF_SAFE = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
"""Codecs whose pictures say whether others may refer to them, and whose decoder skips by that.

H.264: ``nal_ref_idc`` 0. HEVC: sub-layer non-reference pictures, which only pictures of a higher
temporal layer may use: safe where there is one layer. MPEG-1/2/4: B pictures. VP9 is not here: a
frame that nothing refers to still carries probabilities on to the next."""

H264_PROFILES_WITH_CHROMA = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
"""Profiles whose sequence parameter sets state the chroma format."""

_SEQUENCE_CODECS = frozenset({"mpeg1video", "mpeg2video"})
_OTHER_RULES = _SEQUENCE_CODECS | {"h264", "hevc"}
_VOP_START = b"\0\0\1\xb6"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one key packet is.

    Attributes:
        alone: its picture can be decoded by itself.
        entry: decoding may start here, and what is shown from here on is exact.
    """

    alone: bool
    entry: bool


@dataclass(slots=True)
class KeyPackets:
    """Judges the key packets of one stream; it must be shown every one of them, in decode order.

    Where :attr:`reads_all` is true, it must be shown the other packets as well (:meth:`look_at`).

    Attributes:
        codec: name of the codec, as FFmpeg has it.
        extradata: the stream's header, which a fresh decoder is given.
        single_layer: no temporal layers were seen (only HEVC is looked at).
        whole_pictures: no picture can be coded as two fields, which may come in two packets (only
            H.264 and MPEG-2 are looked at, and only these do that).
        packed: a packet with several pictures was seen (only MPEG-4 part 2 is looked at).
    """

    codec: str
    extradata: bytes
    single_layer: bool = field(init=False, default=True)
    whole_pictures: bool = field(init=False, default=True)
    packed: bool = field(init=False, default=False)
    _strangers: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        if self.codec in ("h264", "hevc"):
            self._note_parameters(list(_parameter_sets(self.codec, self.extradata)))

    @property
    def proven(self) -> bool:
        """Whether a rule is known by which this codec's key packets can be judged."""
        return self.codec in INTRA_ONLY or self.codec in _KEY_TESTS or self.codec in _OTHER_RULES

    @property
    def skippable(self) -> bool:
        """Whether pictures that are not requested, and that none refers to, may be skipped."""
        return self.codec in NONREF_SAFE and self.whole_pictures and self.single_layer

    @property
    def reads_bytes(self) -> bool:
        """Whether :meth:`judge` looks at the packet's bytes at all."""
        return self.proven and self.codec not in INTRA_ONLY

    @property
    def reads_all(self) -> bool:
        """Whether packets that are not flagged as key must be looked at as well."""
        return self.codec == "mpeg4"

    def look_at(self, data: bytes) -> None:
        """Record what a packet, flagged as key or not, shows about the stream."""
        self.packed |= data.count(_VOP_START) > 1

    def judge(self, data: bytes) -> Verdict:
        """What the key packet with these bytes is (no bytes, where :attr:`reads_bytes` is false)."""
        if self.codec in INTRA_ONLY:
            return Verdict(alone=True, entry=True)
        if self.codec in _KEY_TESTS:
            is_key = _KEY_TESTS[self.codec](data)
            return Verdict(alone=is_key, entry=is_key)
        if self.codec in _SEQUENCE_CODECS:
            self.whole_pictures &= self.codec == "mpeg1video" or _mpeg2_is_progressive(data)
            return Verdict(alone=True, entry=data[:4] == b"\x00\x00\x01\xb3")
        if self.codec in ("h264", "hevc"):
            nals = list(_nals(data, _length_size(self.codec, self.extradata)))
            self._note_parameters(nals)
            return self._judge_h264(nals) if self.codec == "h264" else self._judge_hevc(nals)
        return Verdict(alone=False, entry=False)

    def _judge_h264(self, nals: list[bytes]) -> Verdict:
        kinds = [nal[0] & 31 for nal in nals]
        complete = self._parameters_known(nals, kinds, {7, 8})
        if 5 in kinds:
            return Verdict(alone=complete, entry=complete)
        slices = [nal for nal, kind in zip(nals, kinds, strict=True) if 1 <= kind <= 5]
        alone = complete and bool(slices) and all(map(_h264_slice_is_intra, slices))
        exact = any(kind == 6 and _h264_exact_recovery(nal) for nal, kind in zip(nals, kinds, strict=True))
        return Verdict(alone=alone, entry=alone and exact)

    def _judge_hevc(self, nals: list[bytes]) -> Verdict:
        kinds = [nal[0] >> 1 & 63 for nal in nals]
        complete = self._parameters_known(nals, kinds, {33, 34})
        irap = complete and any(16 <= kind <= 23 for kind in kinds)
        return Verdict(alone=irap, entry=irap)

    def _parameters_known(self, nals: list[bytes], kinds: list[int], sets: set[int]) -> bool:
        """Whether a decoder that starts at this packet has the parameter sets that are in force.

        It has those of the header and those in the packet itself. Once others came in between,
        only a packet that brings a whole set is an entry.
        """
        self._strangers |= any(
            kind in sets and nal.rstrip(b"\0") not in self.extradata for nal, kind in zip(nals, kinds, strict=True)
        )
        return not self._strangers or sets <= set(kinds)

    def _note_parameters(self, nals: list[bytes]) -> None:
        for nal in nals:
            if self.codec == "hevc":
                # Sequence parameter set: two bytes of header, 4 bits of id, 3 bits of layers minus 1.
                self.single_layer &= len(nal) <= 2 or nal[0] >> 1 & 63 != 33 or nal[2] >> 1 & 7 == 0
            elif nal and nal[0] & 31 == 7:
                self.whole_pictures &= _h264_frames_only(nal)


def _length_size(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each NAL unit; 0 where start codes part them."""
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 22 and (extradata[0] or extradata[1] or extradata[2] > 1):
        return (extradata[21] & 3) + 1
    return 0


def _nals(data: bytes, length_size: int) -> Iterator[bytes]:
    """The NAL units of a packet; what is cut short or empty is left out."""
    if length_size:
        offset = 0
        while offset + length_size < len(data):
            size = int.from_bytes(data[offset : offset + length_size], "big")
            offset += length_size
            if size and offset + size <= len(data):
                yield data[offset : offset + size]
            offset += size
    else:
        yield from filter(None, data.split(b"\0\0\1")[1:])


def _parameter_sets(codec: str, extradata: bytes) -> Iterator[bytes]:
    """The parameter sets in the header of an HEVC stream, or an H.264 one (of that in MP4, the sequence sets alone).

    ISO/IEC 14496-15, 5.3.3 (H.264: one array) and 8.3.3 (HEVC: an array for each type); elsewhere NAL units.
    """
    if not _length_size(codec, extradata):
        yield from _nals(extradata, 0)
        return
    offset, arrays = (6, 1) if codec == "h264" else (23, extradata[22])
    for _ in range(arrays):
        count = extradata[5] & 31
        if codec == "hevc":
            count = int.from_bytes(extradata[offset + 1 : offset + 3], "big")
            offset += 3
        for _ in range(count):
            size = int.from_bytes(extradata[offset : offset + 2], "big")
            yield extradata[offset + 2 : offset + 2 + size]
            offset += 2 + size


class _Bits:
    """Reads bits and Exp-Golomb numbers from a NAL unit; zeros after its end."""

    def __init__(self, payload: bytes) -> None:
        self._value = int.from_bytes(payload, "big")
        self._left = 8 * len(payload)

    def bit(self) -> int:
        self._left -= 1
        return self._value >> self._left & 1 if self._left >= 0 else 0

    def unsigned(self) -> int:
        zeros = 0
        while zeros < 32 and self._left > 0 and not self.bit():
            zeros += 1
        value = 1
        for _ in range(zeros):
            value = value << 1 | self.bit()
        return value - 1


def _h264_frames_only(nal: bytes) -> bool:
    """``frame_mbs_only_flag`` of a sequence parameter set (ITU-T H.264, 7.3.2.1.1)."""
    bits = _Bits(nal[4:].replace(b"\0\0\3", b"\0\0"))
    bits.unsigned()  # id
    if len(nal) > 1 and nal[1] in H264_PROFILES_WITH_CHROMA:
        _skip_chroma_and_scaling(bits)
    bits.unsigned()  # length of frame_num
    order_count = bits.unsigned()
    if order_count == 0:
        bits.unsigned()
    elif order_count == 1:
        bits.bit()
        for _ in range(2):
            bits.unsigned()
        for _ in range(min(bits.unsigned(), 255)):
            bits.unsigned()
    bits.unsigned()  # reference frames
    bits.bit()  # gaps in frame_num
    for _ in range(2):
        bits.unsigned()  # width, height
    return bits.bit() == 1


def _skip_chroma_and_scaling(bits: _Bits) -> None:
    chroma = bits.unsigned()
    if chroma == 3:
        bits.bit()
    for _ in range(2):
        bits.unsigned()  # bit depths
    bits.bit()
    if bits.bit():
        for number in range(12 if chroma == 3 else 8):
            if bits.bit():
                _skip_scaling_list(bits, 16 if number < 6 else 64)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last, following = 8, 8
    for _ in range(size):
        if following:
            code = bits.unsigned()
            delta = (code + 1) // 2 if code % 2 else -(code // 2)
            following = (last + delta) % 256
        last = following or last


def _mpeg2_is_progressive(data: bytes) -> bool:
    """``progressive_sequence`` of the sequence extension (ITU-T H.262, 6.2.2.3); False if there is none."""
    offset = data.find(b"\0\0\1\xb5")
    extension = data[offset + 4 : offset + 6]
    return offset >= 0 and len(extension) == 2 and extension[0] >> 4 == 1 and extension[1] >> 3 & 1 == 1


def _h264_slice_is_intra(nal: bytes) -> bool:
    """Whether a slice's header gives an I slice (``slice_type`` 2, or 7: all slices of the picture)."""
    bits = _Bits(nal[1:16].replace(b"\0\0\3", b"\0\0"))
    bits.unsigned()
    return bits.unsigned() in (2, 7)


def _h264_exact_recovery(nal: bytes) -> bool:
    """Whether an SEI unit holds a recovery point that is exact from its own picture on."""
    data = nal[1:].replace(b"\0\0\3", b"\0\0")
    offset = 0
    while offset + 2 < len(data):
        fields = []
        for _ in range(2):
            number = 0
            while offset < len(data) and data[offset] == 255:
                number, offset = number + 255, offset + 1
            number, offset = number + (data[offset] if offset < len(data) else 0), offset + 1
            fields.append(number)
        kind, size = fields
        if kind == 6:
            bits = _Bits(data[offset : offset + size])
            return bits.unsigned() == 0 and bits.bit() == 1
        offset += size
    return False


def _vp8_is_key(data: bytes) -> bool:
    """Frame type of the frame tag (RFC 6386, 9.1)."""
    return bool(data) and data[0] & 1 == 0


def _vp9_is_key(data: bytes) -> bool:
    """Frame type of the uncompressed header (VP9 bitstream specification, 6.2)."""
    if not data or data[0] >> 6 != 2:
        return False
    profile_3 = data[0] >> 4 & 3 == 3
    rest = data[0] << 1 if profile_3 else data[0]  # profile 3 has a reserved bit more
    return rest & 0b1100 == 0


def _av1_is_key(data: bytes) -> bool:
    """Whether the first frame of a temporal unit is a key frame that is shown (AV1 specification, 5.3 and 5.9.2)."""
    offset = 0
    while offset < len(data):
        header = data[offset]
        offset += 2 if header & 4 else 1
        size = 0
        if header & 2:
            for shift in range(0, 56, 7):
                byte = data[offset] if offset < len(data) else 0
                size, offset = size | (byte & 127) << shift, offset + 1
                if byte < 128:
                    break
        else:
            size = len(data) - offset
        if header >> 3 & 15 in (3, 6):  # frame header, frame
            return offset < len(data) and data[offset] >> 4 == 0b0001
        offset += size
    return False


def _mpeg4_is_key(data: bytes) -> bool:
    """Whether the first video object plane is coded and intra (ISO/IEC 14496-2, 6.2.5)."""
    offset = data.find(_VOP_START)
    return 0 <= offset <= len(data) - LEAST_INTRA_VOP_BYTES and data[offset + 4] >> 6 == 0


_KEY_TESTS: dict[str, Callable[[bytes], bool]] = {
    "vp8": _vp8_is_key,
    "vp9": _vp9_is_key,
    "av1": _av1_is_key,
    "mpeg4": _mpeg4_is_key,
}
