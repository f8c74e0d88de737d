"""Distribution to every rank of the code in a model's folder, which Transformers imports on rank 0 alone."""

import importlib
import sys
from pathlib import Path

from runner.comm import Comm


def send_code(comm: Comm) -> None:
    """Send all ranks the folder's code that rank 0 imported: pickled objects refer to their classes by name."""

    def read() -> dict[str, bytes]:
        root = _code_folder()
        modules = [module for name, module in sys.modules.items() if name.startswith(f"{root.name}.")]
        folders = {Path(file).parent for module in modules if (file := getattr(module, "__file__", None))}
        files = [file for folder in folders for file in folder.glob("*.py")]
        return {str(file.relative_to(root)): file.read_bytes() for file in files}

    def write() -> None:
        from transformers.dynamic_module_utils import create_dynamic_module

        root = _code_folder()
        for name, content in files.items() if comm.world.rank else ():
            create_dynamic_module(root.name / Path(name).parent)  # and its parent packages
            (root / name).write_bytes(content)
        importlib.invalidate_caches()

    files = comm.on_root(read)
    comm.on_each(write)


def _code_folder() -> Path:
    """Return the folder in which Transformers keeps the code of models that this process imports."""
    from transformers import dynamic_module_utils as utils

    utils.init_hf_modules()
    return Path(utils.HF_MODULES_CACHE) / utils.TRANSFORMERS_DYNAMIC_MODULE_NAME  # type: ignore[attr-defined]
