"""Error messages for files that cannot be used as given: the format of the file, and how to use it."""

from dataclasses import dataclass

from runner.config.model_kinds import MODEL_KINDS
from runner.core.errors import ModelError
from runner.models.formats import (
    FOLDER,
    INDEX,
    SAFETENSORS,
    SAVED,
    UNKNOWN,
    beginning,
    tar_members,
)

_FACTORY = "It needs the code of the model: --model package.module:factory --weights {path}"
_OWN_READER = (
    "A factory of yours can read it: --model package.module:factory --weights {path}, where the factory has a "
    "parameter named `weights`, which gets the opened file"
)
_WHOLE = "It is a complete model: --model {path}, without --weights"
_KERAS = "Export it to ONNX: keras.models.load_model({path!r}).export('model.onnx', format='onnx')"
_TF2ONNX = "Export it to ONNX with tf2onnx: python -m tf2onnx.convert {option} {path} --output model.onnx"
_UNPACK = "Unpack it, and name the file that was in it"
_MADE_FROM = "Export the model that it was made from to ONNX"


@dataclass(frozen=True)
class Format:
    """A format that is not a model, or not weights.

    Attributes:
        what: completes "PATH is ...".
        as_model: how to use the file where it was given as --model.
        as_weights: how to use it where it was given as --weights; empty where `as_model` holds for both.
    """

    what: str
    as_model: str
    as_weights: str = ""


FORMATS: dict[str, Format] = {
    **{kind.name: Format(kind.what, "", _WHOLE) for kind in MODEL_KINDS if not kind.is_folder},
    FOLDER: Format(
        "a folder", "", "Name the file in it; or, for a model of a library with its weights, --model {path}/"
    ),
    SAVED: Format("a state dict, a checkpoint or a pickled module, as torch.save writes it", _FACTORY),
    SAFETENSORS: Format("a safetensors file, which holds weights without a model", _FACTORY),
    INDEX: Format("the index of files of weights, which hold no model", _FACTORY),
    "aotinductor": Format(
        "a package compiled by AOTInductor, for one kind of machine and batch",
        "Save the program itself with torch.export.save",
    ),
    "keras": Format("a model of Keras", _KERAS),
    "hdf5": Format("an HDF5 file, as Keras writes models and weights", _KERAS, _OWN_READER),
    "savedmodel": Format("a SavedModel folder of TensorFlow", _TF2ONNX.replace("{option}", "--saved-model")),
    "tensorflow": Format(
        "a graph of TensorFlow, by its name",
        "Export the model to ONNX with tf2onnx: a SavedModel folder by --saved-model, a frozen graph by --graphdef",
    ),
    "tflite": Format("a TensorFlow Lite model", _TF2ONNX.replace("{option}", "--tflite")),
    "ort": Format("a model in ONNX Runtime's own format", "Take the .onnx file that it was made from"),
    "joblib": Format(
        "a file of joblib, as scikit-learn's models are saved",
        f"{_OWN_READER}; or export the model to ONNX with skl2onnx",
    ),
    "pickle": Format(
        "a pickle that torch.save has not written, as scikit-learn's models are saved",
        f"{_OWN_READER}; or export a model of scikit-learn to ONNX with skl2onnx",
        f"{_OWN_READER}; or save a state dict with torch.save(model.state_dict(), PATH)",
    ),
    "mindir": Format(
        "a MindIR model of MindSpore, by its name",
        "Export the network to ONNX: mindspore.export(net, input, file_name='model', file_format='ONNX')",
    ),
    "gguf": Format("a GGUF model of llama.cpp", "Take the Hugging Face folder that it was made from: --model FOLDER/"),
    "paddle": Format(
        "a model of PaddlePaddle, by its name",
        "Export it to ONNX with paddle2onnx: paddle2onnx --model_dir DIR --model_filename MODEL --params_filename "
        "PARAMS --save_file model.onnx",
    ),
    "coreml": Format("a Core ML model, by its name", _MADE_FROM),
    "openvino": Format("a model of OpenVINO, by its name", _MADE_FROM),
    "tensorrt": Format(
        "an engine of TensorRT, by its name, built for one kind of GPU", "Take the ONNX file that it was built from"
    ),
    "flax": Format(
        "a msgpack file of Flax, by its name", "Save the model for PyTorch, or export it to ONNX", _OWN_READER
    ),
    "numpy": Format("a file of NumPy arrays", _OWN_READER),
    "lfs": Format("a Git LFS pointer, not the file", "Fetch the file: git lfs pull"),
    "annex": Format("a git-annex pointer, not the file", "Fetch the file: git annex get {path}"),
    "html": Format("a page of HTML, not the file", "Download the file itself"),
    "empty": Format("an empty file", "Copy or download it again"),
    "cut": Format("a zip archive whose end is missing or damaged", "Copy or download it again"),
    "gzip": Format("compressed by gzip", _UNPACK),
    "bzip2": Format("compressed by bzip2", _UNPACK),
    "xz": Format("compressed by xz", _UNPACK),
    "zstd": Format("compressed by zstd", _UNPACK),
    "7z": Format("a 7z archive", _UNPACK),
    "zip": Format("a zip archive of no format that is known here", _UNPACK),
    "tar": Format("a tar archive", _UNPACK),
    UNKNOWN: Format(
        "of no format that is known here",
        "A complete model is TorchScript, a program of torch.export, ONNX or a folder; anything else is for a factory: "
        "--model package.module:factory --weights {path}",
        "--weights takes what torch.save writes, safetensors, or the index of several of either; a factory with a "
        "parameter named `weights` gets any file, opened",
    ),
}


def refusal(option: str, path: str, format_name: str) -> ModelError:
    """Return the error for a file that cannot be used by an option.

    Args:
        option: `--model` or `--weights`.
            path: path of the file, as the user gave it.
            format_name: format of the file, a key of `FORMATS`.
    """
    known = FORMATS[format_name]
    what = beginning(path) if format_name == UNKNOWN else known.what
    if format_name == "tar" and (names := tar_members(path)):
        what += f" of {', '.join(names)}"
    advice = (option == "--weights" and known.as_weights) or known.as_model
    return ModelError(f"{option} {path} is {what}. {advice.format(path=path)}")
