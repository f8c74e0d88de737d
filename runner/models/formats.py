"""Detection of model and weights formats by content; the name counts only where the content is not conclusive."""

import os
import tarfile
import zipfile
from pathlib import Path
from typing import BinaryIO

from runner.config.model_kinds import MODEL_KINDS, ONNX
from runner.models.loaders.onnx_header import is_onnx

FOLDER = "folder"
INDEX = "index"
SAFETENSORS = "safetensors"
SAVED = "saved"
UNKNOWN = "unknown"

_HEAD_BYTES = 1024
_SAVED_BEFORE = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before PyTorch 1.6: a number, pickled
_MAX_HEADER_BYTES = 100 << 20  # the safetensors library's own limit
_MAX_INDEX_BYTES = 64 << 20
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"version https://git-lfs", "lfs"),
    (b"/annex/objects/", "annex"),
    (b"../.git/annex/objects/", "annex"),
    (b".git/annex/objects/", "annex"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"GGUF", "gguf"),
    (b"\x93NUMPY", "numpy"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"x\x9c", "joblib"),  # zlib, joblib's compression
    (b"ZF0x", "joblib"),
)
_MARKS = (  # the offset of bytes, the bytes, the format
    *((offset, mark, kind.name) for kind in MODEL_KINDS for offset, mark in kind.marks),
    (4, b"TFL3", "tflite"),
    (4, b"ORTM", "ort"),
)
_MEMBERS: tuple[tuple[str, str], ...] = (  # of zip archives, by the end of a member's name; the first match counts
    *((end, kind.name) for kind in MODEL_KINDS for end in kind.members),
    ("/data.pkl", SAVED),
    ("model.weights.h5", "keras"),
    (".npy", "numpy"),
)
_SUFFIXES: dict[str, str] = {
    **{suffix: kind.name for kind in MODEL_KINDS if kind.by_suffix for suffix in kind.suffixes},
    ".engine": "tensorrt",
    ".plan": "tensorrt",
    ".trt": "tensorrt",
    ".mindir": "mindir",
    ".pdmodel": "paddle",
    ".pdiparams": "paddle",
    ".pb": "tensorflow",
    ".mlmodel": "coreml",
    ".mlpackage": "coreml",
    ".msgpack": "flax",
    ".joblib": "joblib",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".xml": "openvino",
}


def detect_format(path: str) -> str:
    """Return the format of a file or folder: the name of a kind of model, or a key of `advice.FORMATS`.

    Raises:
            OSError: the file cannot be read.
    """
    if os.path.isdir(path):
        return _detect_folder(Path(path))
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
        kind = _detect_head(file, head, os.fstat(file.fileno()).st_size)
    if kind == "zip":
        return _detect_archive(path)
    if kind == UNKNOWN:
        kind = _SUFFIXES.get(Path(path).suffix, UNKNOWN)
    return kind


def zip_members(path: str) -> list[str]:
    """Return the names in a zip archive; an empty list where its directory, at the end, is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:
        return []


def beginning(path: str) -> str:
    """Describe the first bytes of a file of unknown format."""
    with open(path, "rb") as file:
        head = file.read(24)
    if not head:
        return "an empty file"
    text = head.decode("ascii", "replace")
    if text.replace("\n", " ").isprintable():
        return f"text that begins with {text.splitlines()[0]!r}"
    return f"of no format that is known here; its first bytes are {head[:8].hex(' ')}"


def _detect_folder(path: Path) -> str:
    if any((path / name).exists() for name in ("config.json", "modules.json", "adapter_config.json")):
        return FOLDER
    if (path / "saved_model.pb").exists():
        return "savedmodel"
    return _SUFFIXES.get(path.suffix, FOLDER)


def _detect_head(file: BinaryIO, head: bytes, size: int) -> str:
    if not head:
        return "empty"
    for beginning_bytes, name in _BEGINNINGS:
        if head.startswith(beginning_bytes):
            return name
    for offset, mark, name in _MARKS:
        if head[offset : offset + len(mark)] == mark:
            return name
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER_BYTES:
        return SAFETENSORS
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "html"
    if start.startswith(b"{") and b'"weight_map"' in head + file.read(_MAX_INDEX_BYTES):
        return INDEX
    if head[257:262] == b"ustar":
        return "tar"
    if head[:1] == b"\x80" and 2 <= head[1] <= 5:
        return SAVED if _SAVED_BEFORE in head[:32] else "pickle"
    return ONNX.name if is_onnx(file, size) else UNKNOWN


def _detect_archive(path: str) -> str:
    names = zip_members(path)
    if not names:
        return "cut"
    if any("/aotinductor/" in name for name in names) and not any(name.endswith("/model.json") for name in names):
        return "aotinductor"
    return next((kind for end, kind in _MEMBERS if any(name.endswith(end) for name in names)), "zip")


def tar_members(path: str) -> list[str]:
    """Return the names of the first members of a tar archive, at most 5; an empty list where it is damaged."""
    try:
        with tarfile.open(path) as archive:
            return [member.name for member, _ in zip(archive, range(5), strict=False)]
    except tarfile.TarError:
        return []
