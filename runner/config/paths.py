"""Paths and URLs in options."""

MODEL_SUFFIXES = (".pt", ".pt2", ".onnx")


def is_path(model: str) -> bool:
    """Return whether --model is the path of a file or folder, not the name of a factory; a path has a `/` or no `:`."""
    return model.endswith(MODEL_SUFFIXES) or "/" in model or ":" not in model
