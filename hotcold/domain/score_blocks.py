"""How the score store keeps a table: entities become keys of one length, and about a hundred keys share a record.

A record per entity would cost as much for the record as for its content. The key of a whole number is a bijection of it, so
equal keys are equal entities; the key of a text is a hash of 128 bits, by which two of 10^9 texts meet with a probability of
10^-21. Both are spread evenly, so that their leading bits say which block they are in and no block grows far above the mean.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

KeyKind = Literal["int64", "text"]
Keys = NDArray[np.uint64]
Float32s = NDArray[np.float32]

# Words of 64 bits in a key, most significant first.
WORDS: dict[KeyKind, int] = {"int64": 1, "text": 2}
SCORE_BYTES = 4
# A block never spans two of the ranges that the builder merges one by one.
RANGE_BITS = 8
RANGES = 1 << RANGE_BITS
MAX_BUCKET_BITS = 32

# Mean entities of a block, at most: 1,536 and 1,440 bytes. LMDB moves a record of more than 2,000 to pages of its own.
_MOST: dict[KeyKind, int] = {"int64": 128, "text": 72}
_WORD = 0xFFFF_FFFF_FFFF_FFFF
_MIX_1, _MIX_2 = 0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB
_UNMIX_1, _UNMIX_2 = pow(_MIX_1, -1, 1 << 64), pow(_MIX_2, -1, 1 << 64)
_INT64_DIGITS = 20
_SCORE = struct.Struct("<f")


def int64_keys(ids: NDArray[np.int64]) -> Keys:
    """Keys of whole numbers, by the finaliser of splitmix64.

    Args:
        ids: shape (n,), int64.

    Returns:
        Shape (n, 1), uint64; different ids have different keys.

    Source:
        Steele, Lea and Flood (2014), Fast splittable pseudorandom number generators; constants of Stafford's mix 13.
    """
    z = ids.astype(np.uint64)
    z ^= z >> np.uint64(30)
    z *= np.uint64(_MIX_1)
    z ^= z >> np.uint64(27)
    z *= np.uint64(_MIX_2)
    z ^= z >> np.uint64(31)
    return z.reshape(-1, 1)


def int64_ids(keys: Keys) -> NDArray[np.int64]:
    """Inverse of `int64_keys`.

    Args:
        keys: shape (n, 1), uint64.

    Returns:
        Shape (n,), int64.
    """
    z = keys[:, 0].copy()
    z ^= (z >> np.uint64(31)) ^ (z >> np.uint64(62))
    z *= np.uint64(_UNMIX_2)
    z ^= (z >> np.uint64(27)) ^ (z >> np.uint64(54))
    z *= np.uint64(_UNMIX_1)
    z ^= (z >> np.uint64(30)) ^ (z >> np.uint64(60))
    return z.astype(np.int64)


def text_keys(texts: Sequence[bytes]) -> Keys:
    """Keys of texts.

    Args:
        texts: n texts in UTF-8.

    Returns:
        Shape (n, 2), uint64.
    """
    digests = b"".join(map(xxhash.xxh3_128_digest, texts))
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)


def entity_key(entity: str, kind: KeyKind) -> bytes | None:
    """The key of one entity, as blocks hold it.

    Args:
        entity: as a caller names it; a whole number has no plus sign, space or leading zero, or it would have two names.
        kind: of the table.

    Returns:
        8 or 16 bytes; None if no entity of such a table is named like that.
    """
    if kind == "text":
        # No text that can be stored has a surrogate in it, and so encoded none is mistaken for one.
        return xxhash.xxh3_128_digest(entity.encode("utf-8", "surrogatepass"))
    if len(entity) > _INT64_DIGITS:
        return None
    try:
        number = int(entity)
    except ValueError:
        return None
    if str(number) != entity or not -(1 << 63) <= number < 1 << 63:
        return None
    z = number & _WORD
    z = (z ^ (z >> 30)) * _MIX_1 & _WORD
    z = (z ^ (z >> 27)) * _MIX_2 & _WORD
    return (z ^ (z >> 31)).to_bytes(8, "big")


def bucket_bits(entities: int, kind: KeyKind) -> int:
    """How many leading bits of a key say which block it is in.

    Args:
        entities: of the table; an estimate does, too.
        kind: of their keys.

    Returns:
        8 to 32, so that a block has about a hundred entities; fewer in a table of less than 25,000.
    """
    blocks = -(-entities // _MOST[kind])
    return min(max((blocks - 1).bit_length(), RANGE_BITS), MAX_BUCKET_BITS)


def bucket_of(key: bytes, bits: int) -> bytes:
    """Name of the block that a key is in: 4 bytes that sort as the keys do."""
    return (int.from_bytes(key[:8], "big") >> (64 - bits)).to_bytes(4, "big")


def pack_blocks(keys: Keys, scores: Float32s, bits: int) -> Iterator[tuple[bytes, bytes]]:
    """Cut sorted entities into blocks: the keys back to back, then their scores.

    Args:
        keys: shape (n, words), sorted and unique; all entities of a bucket are among them, or none.
        scores: shape (n,), float32.
        bits: of `bucket_bits`.

    Yields:
        Name and content of each block that is not empty, in order.
    """
    if not len(keys):
        return
    buckets = keys[:, 0] >> np.uint64(64 - bits)
    starts = np.concatenate(([0], np.flatnonzero(buckets[1:] != buckets[:-1]) + 1))
    names = buckets[starts].astype(">u4").tobytes()
    width, stops = 8 * keys.shape[1], np.append(starts[1:], len(keys))
    all_keys, all_scores = keys.astype(">u8").tobytes(), scores.astype("<f4").tobytes()
    for index, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        block = all_keys[start * width : stop * width] + all_scores[start * SCORE_BYTES : stop * SCORE_BYTES]
        yield names[4 * index : 4 * index + 4], block


def find_score(block: bytes, key: bytes) -> float | None:
    """Score of an entity.

    Args:
        block: the one that the key is in.
        key: of the entity.

    Returns:
        Its score; None if it is not in the block.
    """
    width = len(key)
    count = len(block) // (width + SCORE_BYTES)
    end = count * width
    at = block.find(key, 0, end)
    # The end of one key and the start of the next may look like this one.
    while at >= 0 and at % width:
        at = block.find(key, at + 1, end)
    if at < 0:
        return None
    score: float = _SCORE.unpack_from(block, end + at // width * SCORE_BYTES)[0]
    return score
