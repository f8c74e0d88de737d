"""The format of a file by its first bytes, whatever its suffix."""

from collections.abc import Sequence

from runner.core.urls import is_url

_BEGINNINGS = (
    (b"\x89HDF\r\n\x1a\n", "HDF5", ".h5"),
    (b"CDF\x01", "netCDF", ".nc"),
    (b"CDF\x02", "netCDF", ".nc"),
    (b"SIMPLE  =", "FITS", ".fits"),
    (b"MATLAB ", "a MATLAB file", ".mat"),
    (b"\x93NUMPY", "an array of numpy.save", ".npy"),
    (b"PAR1", "Parquet", ".parquet"),
    (b"ARROW1", "an Arrow file", ".arrow"),
    (b"SQLite format 3\x00", "a database of SQLite", ""),
    (b"\x1f\x8b", "compressed by gzip", ""),
    (b"BZh", "compressed by bzip2", ""),
    (b"\xfd7zXZ\x00", "compressed by xz", ""),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", ""),
    (b"PK\x03\x04", "a zip archive", ".npz"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image", ""),
    (b"\xff\xd8\xff", "a JPEG image", ""),
    (b"II*\x00", "a TIFF image", ""),
    (b"MM\x00*", "a TIFF image", ""),
)
_MOST = 128  # bytes


def beginning_of(path: str) -> bytes:
    """Return the first bytes of a local file; none where it cannot be read, or is a URL."""
    if is_url(path):
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(_MOST)
    except OSError:
        return b""


def hint_of_contents(path: str, suffixes: Sequence[str]) -> str:
    """Return what a file is that is of another format than its suffix says; empty where that is not known.

    Args:
        path: path of the file.
        suffixes: suffixes of the format as which it was read.
    """
    beginning = beginning_of(path)
    for first_bytes, name, suffix in _BEGINNINGS:
        if beginning.startswith(first_bytes):
            if suffix in suffixes:
                return ""
            way = f": rename it to end in {suffix}" if suffix else ""
            return f". By its first bytes it is {name}{way}"
    return ""
