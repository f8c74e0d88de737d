"""The checksum of rows and weights: XXH3 with 128 bits (https://xxhash.com), which runs at the speed of memory."""

import numpy as np
import xxhash


def checksum(rows: np.ndarray) -> str:
    """The checksum of the bytes of a contiguous array."""
    return f"xxh3:{xxhash.xxh3_128(as_bytes(rows)).hexdigest()}"


def checksum_of_text(text: str) -> str:
    """The checksum of a text."""
    return f"xxh3:{xxhash.xxh3_128(text.encode()).hexdigest()}"


def as_bytes(rows: np.ndarray) -> memoryview:
    """The memory of a contiguous array, as bytes."""
    return memoryview(rows.reshape(-1).view(np.uint8))
