"""Folders with only a .gguf file, from which Transformers reads the configuration, the tokenizer and the weights."""

import atexit
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from runner.config.options import Config
from runner.core.errors import ModelError, UsageError, describe
from runner.core.imports import import_extra

LOGGER = logging.getLogger("runner")


def find_gguf(folder: Path, config: Config) -> str | None:
    """Return the name of the .gguf file of a folder without another model, or None; for rank 0.

    Raises:
        UsageError: libraries are missing, or an option does not go with a .gguf file.
        ModelError: the folder has several such files.
    """
    names = sorted(path.name for path in folder.glob("*.gguf"))
    if (folder / "config.json").exists() or not names:
        return None
    if len(names) > 1:
        raise ModelError(f"--model {folder} has several .gguf files, {', '.join(names[:4])}; let there be one")
    for library in ("accelerate", "gguf"):
        import_extra(library, f"--model {folder}: {names[0]}", "gguf")
    for name, is_given in (("--offload", config.offload is not None), ("--model-parallel", config.model_parallel > 1)):
        if is_given:
            raise UsageError(
                f"{name} cannot be combined with the .gguf file in --model {folder}; save it with save_pretrained"
            )
    return names[0]


def unpack_settings(transformers: Any, folder: Path, file: str) -> Path:
    """Write the contents of a .gguf file besides weights to a folder in Transformers' format, kept until exit.

    Args:
        transformers: the library.
        folder, file: folder and name of the file.

    Raises:
        ModelError: Transformers cannot read the file.
    """
    own = tempfile.mkdtemp(prefix="runner-gguf-")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    try:
        settings = transformers.AutoConfig.from_pretrained(folder, gguf_file=file, local_files_only=True)
        settings.save_pretrained(own)
    except Exception as error:
        raise ModelError(f"--model {folder}: {file} cannot be read: {describe(error)}") from error
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file, local_files_only=True)
        tokenizer.save_pretrained(own)
    except Exception as error:  # rows of tokens do not need a tokenizer
        LOGGER.info("--model %s: the tokenizer in %s cannot be read: %s", folder, file, describe(error))
    return Path(own)
