"""One kept KV block as bytes: a header that says what it is, and the block itself."""

import struct
import zlib
from dataclasses import dataclass
from hashlib import sha256

Buffer = bytes | bytearray | memoryview

_HEADER = struct.Struct("<8s16s32sQII")
_MAGIC = b"HALO-KV1"
HEADER_BYTES = _HEADER.size


@dataclass(frozen=True, slots=True)
class BlockLabel:
    """Which block of which layout: `fingerprint` is the layout's, `block_hash` vLLM's own chained hash."""

    fingerprint: str
    block_hash: bytes
    rank: int = 0

    @property
    def file_name(self) -> str:
        return f"{self.block_hash.hex()}.{self.rank}"


def encode_header(label: BlockLabel, payload: Buffer) -> bytes:
    return _HEADER.pack(_MAGIC, *_names(label), len(payload), label.rank, zlib.crc32(payload))


def fault_of(label: BlockLabel, header: Buffer, payload: Buffer) -> str | None:
    """Why these bytes are not the block asked for; `None` where they are."""
    if len(header) != HEADER_BYTES:
        return "cut off in its header"
    magic, fingerprint, block, size, rank, checksum = _HEADER.unpack(header)
    if magic != _MAGIC:
        return "no KV block, or one of another version"
    if (fingerprint, block, rank) != (*_names(label), label.rank):
        return "of another layout, block or rank"
    if size != len(payload):
        return f"{size} bytes long where {len(payload)} were due"
    if checksum != zlib.crc32(payload):
        return "damaged: its checksum differs"
    return None


def _names(label: BlockLabel) -> tuple[bytes, bytes]:
    """Of fixed length, whatever the length of vLLM's hashes."""
    return bytes.fromhex(label.fingerprint), sha256(label.block_hash).digest()
