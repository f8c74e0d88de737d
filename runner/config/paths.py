"""Paths and URLs in options."""

import re

MODEL_SUFFIXES = (".pt", ".pt2", ".onnx")

# in a URL; records are for all to read
_PASSWORD, _SECRET = re.compile(r"(://[^:/@]*):[^@/]*@"), re.compile(r"([?&](?:password|passwd)=)[^&]*")


def hide_secrets(text: str) -> str:
    """Return a text with the passwords in its URLs hidden."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def is_path(model: str) -> bool:
    """Return whether --model is the path of a file or folder, not the name of a factory; a path has a `/` or no `:`."""
    return model.endswith(MODEL_SUFFIXES) or "/" in model or ":" not in model
