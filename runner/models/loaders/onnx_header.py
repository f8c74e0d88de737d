"""Recognition of ONNX models by the fields of the outermost message, without a look at their contents."""

from typing import BinaryIO

_IR_VERSION = 1  # fields of ModelProto
_GRAPH = 7
_VARINT = 0  # how a field of Protocol Buffers is encoded
_BYTES = 2
_ENCODINGS = {_IR_VERSION: _VARINT, 5: _VARINT} | dict.fromkeys((2, 3, 4, 6, _GRAPH, 8, 14, 20, 25, 26), _BYTES)
_MAX_FIELDS = 64


def is_onnx(file: BinaryIO, size: int) -> bool:
    """Return whether a file has the outermost fields of an ONNX model, including the graph; it may be truncated.

    Args:
        file: opened for reading bytes; its position afterwards is undefined.
        size: size of the file in bytes.
    """
    file.seek(0)
    has_version = False
    for _ in range(_MAX_FIELDS):
        tag = _read_varint(file)
        if tag is None or _ENCODINGS.get(tag >> 3) != tag & 7:
            return False
        value = _read_varint(file)
        if value is None:
            return False
        if tag >> 3 == _GRAPH:
            return has_version
        has_version |= tag >> 3 == _IR_VERSION
        if tag & 7 == _BYTES and file.seek(value, 1) > size:
            return False
    return False


def _read_varint(file: BinaryIO) -> int | None:
    """Read an integer of 7 bits a byte, lowest bits first; None at the end of the file or after 10 bytes."""
    value = 0
    for position in range(10):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 127) << 7 * position
        if byte[0] < 128:
            return value
    return None
