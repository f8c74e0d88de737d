"""Checksums of rows and weights: XXH3 with 128 bits (https://xxhash.com), which runs at the speed of memory."""

import numpy as np
import xxhash


def checksum(rows: np.ndarray) -> str:
    """Return the checksum of the bytes of a contiguous array."""
    return f"xxh3:{xxhash.xxh3_128(as_bytes(rows)).hexdigest()}"


def checksum_of_text(text: str) -> str:
    """Return the checksum of a text, encoded as UTF-8."""
    return f"xxh3:{xxhash.xxh3_128(text.encode()).hexdigest()}"


def as_bytes(rows: np.ndarray) -> memoryview:
    """Return the memory of a contiguous array as bytes, without a copy."""
    return memoryview(rows.reshape(-1).view(np.uint8))
