"""Run a notebook with a real kernel: `run_notebook.py CELL ...`. Prints a line of JSON for each message of a cell.

Each is the number of the cell, the type of the message and its text; of a display, as HTML.
"""

import json
import os
import sys
import tempfile
from typing import Any

import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient


class Client(NotebookClient):
    """Client that prints what the kernel sends, also what is later replaced in the notebook."""

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        kind, content = msg["msg_type"], msg["content"]
        text = content.get("text") or content.get("data", {}).get("text/html")
        if kind in ("stream", "display_data", "update_display_data"):
            print(json.dumps([cell_index, content.get("name", kind), text]), flush=True)
        return super().process_message(msg, cell, cell_index)


if __name__ == "__main__":
    # connections are files in a folder, and not ports of TCP, about which the kernel would warn
    with tempfile.TemporaryDirectory(prefix="nb-") as folder:
        os.environ |= {"JUPYTER_RUNTIME_DIR": folder, "IPYTHONDIR": folder}
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in sys.argv[1:]])
        kernel = KernelManager(transport="ipc")
        Client(notebook, km=kernel, timeout=120).execute()
        kernel.shutdown_kernel()
        for index, cell in enumerate(notebook.cells):
            print(json.dumps([index, "outputs", [output.output_type for output in cell.outputs]]))
