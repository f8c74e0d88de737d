"""ONNX files, through ONNX Runtime: the way of models from TensorFlow, Keras, MindSpore and others."""

from typing import Any

import torch

from runner.config import Config
from runner.errors import ModelError, UsageError
from runner.models.fixed import FixedBatch


def load(path: str, device: torch.device, config: Config) -> Any:
    """The model, ready to be called with tensors; as many CPU threads work on it as PyTorch would use.

    Raises:
        UsageError: ONNX Runtime is missing, or cannot use the GPU, or the model takes smaller batches.
        ModelError: it is no ONNX file, or it keeps its weights in another one.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError("ONNX models need ONNX Runtime: pip install 'horovod-inference-runner[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other ranks need the cores
    options.log_severity_level = 3  # errors; they are raised, too
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise UsageError("this ONNX Runtime has no CUDA: pip install onnxruntime-gpu, or --device cpu")
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index}))
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:
        if "external" in str(error).lower():
            raise ModelError(
                "keeps its weights in another file; save it as one, as torch.onnx.export(..., external_data=False) does"
            ) from error
        raise ModelError(f"is not a model that ONNX Runtime can load: {error}") from error
    size = session.get_inputs()[0].shape[:1]
    model = OnnxModel(session)
    return FixedBatch(model, size[0], config.batch_size) if size and isinstance(size[0], int) else model


class OnnxModel:
    """An ONNX Runtime session that takes and gives tensors: one, or by name where there are several.

    Attributes:
        inputs, outputs: name, type and shape of each.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs, self.outputs = session.get_inputs(), session.get_outputs()
        self._inputs = [value.name for value in self.inputs]
        self._outputs = [value.name for value in self.outputs]

    def __call__(self, *inputs: torch.Tensor, **named: torch.Tensor) -> Any:
        if len(inputs) + len(named) != len(self._inputs):
            raise ModelError(f"the model takes {len(self._inputs)} inputs ({', '.join(self._inputs)})")
        given = dict(zip(self._inputs, inputs, strict=False)) | named
        found = self._session.run(None, {name: tensor.cpu().numpy() for name, tensor in given.items()})
        outputs = {name: torch.from_numpy(array) for name, array in zip(self._outputs, found, strict=True)}
        return outputs if len(outputs) > 1 else outputs[self._outputs[0]]
