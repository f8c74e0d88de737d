"""The kinds of models: one row each, with what others ask about it."""

from dataclasses import dataclass

ADAPTATIONS = ("dtype", "channels_last", "compile", "share_weights")  # options that change an nn.Module


@dataclass(frozen=True)
class ModelKind:
    """A kind of model that --model names.

    Attributes:
        name: its name; of a file, also the name of its format.
        build: the function that makes it on every rank, as `package.module:name`: it takes the configuration, the ranks
            and the device, and returns the model and the digest of its weights.
        what: completes "PATH is ..." in messages about its files.
        suffixes: of its files; a name with one of them is not a factory.
        marks: bytes that tell its files, each after its offset.
        members: ends of names in a zip archive that tell its files.
        by_suffix: whether the suffix tells a file whose contents do not.
        is_folder: whether it is a folder.
        recognizer: the function of a path that tells such a folder, as `package.module:name`; None for any folder.
        weights: patterns of the files with its weights, in its folder; or beside its file, whose name is `{name}`.
        adaptations: those of `ADAPTATIONS` that it takes.
        takes_arguments: whether it takes --model-args.
        runs_code: whether its files are programs that can do more than compute, which --trust-pickle allows.
        is_divisible: whether --offload and --model-parallel can take its layers apart.
    """

    name: str
    build: str
    what: str = ""
    suffixes: tuple[str, ...] = ()
    marks: tuple[tuple[int, bytes], ...] = ()
    members: tuple[str, ...] = ()
    by_suffix: bool = False
    is_folder: bool = False
    recognizer: str | None = None
    weights: tuple[str, ...] = ()
    adaptations: tuple[str, ...] = ()
    takes_arguments: bool = False
    runs_code: bool = False
    is_divisible: bool = False


_FOLDER_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")

FACTORY = ModelKind(
    "factory",
    "runner.models.loaders.factory:build_from_factory",
    adaptations=ADAPTATIONS,
    takes_arguments=True,
    is_divisible=True,
)
PLUGIN = ModelKind(  # of another package
    "plug-in",
    "runner.models.loaders.plugin:build_from_plugin",
    adaptations=ADAPTATIONS,
    takes_arguments=True,
)
ONNX = ModelKind(
    "ONNX",
    "runner.models.loaders.onnx:build_from_onnx",
    "an ONNX model",
    suffixes=(".onnx",),
    by_suffix=True,  # the ONNX library reports what is wrong with the file
    weights=("{name}*data",),
    adaptations=("dtype",),
)
TRANSFORMERS = ModelKind(
    "Transformers",
    "runner.models.transformers.folder:build_from_folder",
    is_folder=True,
    weights=_FOLDER_WEIGHTS,
    adaptations=ADAPTATIONS,
    takes_arguments=True,
    is_divisible=True,
)
MODEL_KINDS = (  # of paths; the first that fits counts
    ModelKind(
        "TorchScript",
        "runner.models.loaders.torchscript:build_from_torchscript",
        "a TorchScript model",
        suffixes=(".pt",),
        members=("/constants.pkl",),
        runs_code=True,
    ),
    ModelKind(
        "torch.export",
        "runner.models.loaders.exported:build_from_program",
        "a program of torch.export",
        suffixes=(".pt2",),
        members=("/archive_format", "serialized_exported_program.json"),  # the second before PyTorch 2.8
        adaptations=("dtype",),
        runs_code=True,
    ),
    ONNX,
    ModelKind(
        "timm",
        "runner.models.images.timm:build_from_timm",
        is_folder=True,
        recognizer="runner.models.images.timm:is_timm_folder",
        weights=_FOLDER_WEIGHTS,
        adaptations=ADAPTATIONS,
        takes_arguments=True,
    ),
    ModelKind(
        "sentence-transformers",
        "runner.models.sentences.loading:build_from_sentence_folder",
        is_folder=True,
        recognizer="runner.models.sentences.folder:is_sentence_folder",
        weights=_FOLDER_WEIGHTS,
        adaptations=ADAPTATIONS,
        takes_arguments=True,
    ),
    TRANSFORMERS,
)
