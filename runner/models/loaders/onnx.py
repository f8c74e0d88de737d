"""ONNX files, run by ONNX Runtime: the path for models from TensorFlow, Keras, MindSpore and others."""

import functools
import re
from pathlib import Path
from typing import Any

import torch

from runner.comm import Comm
from runner.config.options import Config
from runner.core.checksum import checksum_of_text
from runner.core.errors import ModelError, UsageError, describe
from runner.core.imports import import_extra
from runner.models.loaders.onnx_values import as_output, check_outputs, feed_of, run, signature_of_session
from runner.models.weights.files import MemoryFile, broadcast_file, load_model_file


def build_from_onnx(config: Config, comm: Comm, device: torch.device) -> tuple[Any, str]:
    """Return the model on `device`, ready to be called with tensors, and the digest of its files.

    Raises:
        UsageError: ONNX Runtime is missing, or cannot use the GPU.
        ModelError: the file is not an ONNX file, or a file with its weights is missing.
    """
    path = str(config.model)
    file, digest = broadcast_file(comm, path, "--model")
    names = comm.on_root(lambda: _weight_files(file, path))
    weights = {name: broadcast_file(comm, str(Path(path).parent / name), "--model") for name in names}
    digests = " ".join([digest, *(digest for _, digest in weights.values())])
    contents = {name: file.raw for name, (file, _) in weights.items()}
    try:
        model = comm.on_each(lambda: load_model_file(functools.partial(_load, contents), file, config, device))
    finally:
        contents.clear()
        for file, _ in weights.values():
            file.close()
    return model, checksum_of_text(digests) if weights else digest


def _weight_files(file: MemoryFile, path: str) -> list[str]:
    """Return the names of the files beside the model that hold its weights; large models always have such files."""
    if not re.search(b"location", file.raw.numpy()):  # ONNX's key for the name of such a file
        return []
    onnx = import_extra("onnx", "an ONNX model", "onnx")
    try:
        tensors = onnx.load(file.name, format="protobuf", load_external_data=False).graph.initializer
    except Exception as error:
        raise ModelError(f"--model {path} is not an ONNX file: {describe(error)}") from error
    external = [tensor.external_data for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL]
    names = sorted({entry.value for entries in external for entry in entries if entry.key == "location"})
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ModelError(f"--model {path} needs weights from {name}, which is not beside it")
    return names


def _load(weights: dict[str, torch.Tensor], path: str, device: torch.device, config: Config) -> Any:
    """Return the model; it uses as many CPU threads as PyTorch would."""
    onnxruntime = import_extra("onnxruntime", "an ONNX model", "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other ranks need the cores
    options.log_severity_level = 3  # errors only; they are also raised
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise UsageError("this ONNX Runtime has no CUDA: pip install onnxruntime-gpu, or --device cpu")
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index}))
    if weights:
        contents = [raw.numpy() for raw in weights.values()]
        options.add_external_initializers_from_files_in_memory(list(weights), contents, list(map(len, contents)))
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:
        raise ModelError(f"is not a model that ONNX Runtime can load: {error}") from error
    return OnnxModel(session, config)


class OnnxModel:
    """An ONNX Runtime session on tensors, and on text as lists: one output, or a dict by name where there are several.

    Attributes:
        inputs, outputs: name, type and shape of each.
        signature: the inputs that the model takes.

    Raises:
        ModelError: an input or output has a type that rows cannot have.
    """

    def __init__(self, session: Any, config: Config) -> None:
        self._session = session
        self.inputs = session.get_inputs()
        self.outputs = session.get_outputs()
        self._inputs = [value.name for value in self.inputs]
        self._outputs = [value.name for value in self.outputs]
        self.signature = signature_of_session(self.inputs, config.input)
        check_outputs(self.outputs)

    def inspected_facts(self) -> dict[str, str]:
        """Return what `inspect` shows."""
        return {"kind": "ONNX", "input": _describe_values(self.inputs), "output": _describe_values(self.outputs)}

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        rest = [name for name in self._inputs if name not in named]
        feed = feed_of(self.inputs, dict(zip(rest, inputs, strict=True)) | named)
        results = run(self._session, feed)
        outputs = {value.name: as_output(value, item) for value, item in zip(self.outputs, results, strict=True)}
        return outputs if len(outputs) > 1 else outputs[self._outputs[0]]


def _describe_values(values: list[Any]) -> str:
    return ", ".join(f"{value.name}: {value.type} {value.shape}" for value in values)
