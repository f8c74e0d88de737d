"""The image processor of a Hugging Face folder, which prepares images for its model."""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from runner.comm import Comm
from runner.core.errors import ModelError, RunnerError, UsageError, describe
from runner.core.imports import import_extra
from runner.core.tracebacks import traceback_of
from runner.data.rows import name_rows
from runner.data.tensors import FileList
from runner.models.images.reading import are_channels_last, as_pictures, has_images, images_in, open_files

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_PIXELS = "pixel_values"
_PARTS = ("vision_config", "encoder", "backbone_config")  # settings that may hold a model's number of channels


class ImageProcessor:
    """Preparation of image batches with the processor in the model's folder.

    Args:
        name: name of the model, for messages.
        architecture: class of the model.
        settings: configuration of the model.
        processor: processor of Transformers; or the error that explains its absence, raised when it is needed.
    """

    def __init__(self, name: str, architecture: Any, settings: Any, processor: Any) -> None:
        self._name = name
        self._processor = processor
        self._channels = _num_channels(settings)
        self._architecture = architecture
        self._settings = settings
        self._takes_images = architecture.main_input_name == _PIXELS
        self._accepted = {*inspect.signature(architecture.forward).parameters, _PIXELS}

    def __call__(self, batch: Any, ids: Sequence[int], dtype: torch.dtype) -> dict[str, torch.Tensor] | None:
        """Return the model's arguments for a batch of images.

        Args:
            batch: see `images_in`.
            ids: the row numbers.
            dtype: dtype of the model's weights, to which floating-point arguments are cast.

        Returns:
            The outputs of the processor that the model takes; None where the batch itself is the model's input.

        Raises:
            ModelError: the rows are images, and the model takes none; the folder has no image processor; channels may
                be first or last; the processor fails.
            InputError: a file is not an image, or is damaged.
        """
        if not self._takes_images:
            self._refuse_images(batch)
            return None
        images = images_in(batch, self._name, ids)
        if images is None:
            return None
        if isinstance(self._processor, RunnerError):
            raise self._processor
        processed = self._process(images, ids)
        tensors = {name: value for name, value in processed.items() if name in self._accepted}
        return {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}

    def _process(self, images: torch.Tensor | FileList, ids: Sequence[int]) -> dict[str, Any]:
        order = {}
        if isinstance(images, FileList):
            inputs: list[Any] = open_files(images, ids)
        else:
            is_last = are_channels_last(images, self._channels, self._name, ids)
            if _takes_order(self._processor):
                inputs = list(images)
                order = {"input_data_format": "channels_last" if is_last else "channels_first"}
            else:
                inputs = as_pictures(images, is_last)
        try:
            with torch.inference_mode():
                return dict(self._processor(inputs, return_tensors="pt", **order))
        except Exception as error:
            kind = type(self._processor).__name__
            why = describe(error)
            if "Unable to convert output" in why:
                why = (
                    "it does not resize images to one size, which a batch needs: use --batch-size 1, or --data "
                    "FOLDER::HEIGHTxWIDTH"
                )
            message = f"{kind} of {self._name} failed on {name_rows(ids)}: {why}"
            raise ModelError(message, traceback_of(error)) from error

    def _refuse_images(self, batch: Any) -> None:
        columns = batch.values() if isinstance(batch, dict) else [batch]
        if any(map(has_images, columns)):
            takes = f"{self._architecture.__name__} takes {self._architecture.main_input_name}"
            raise ModelError(f"{self._name}: {takes}, and not images alone{self._vision_part()}")

    def _vision_part(self) -> str:
        """Return a hint that names the class for the part of the model that takes images; empty where there is none."""
        import transformers

        kind = type(self._settings).__name__.removesuffix("Config")
        names = (f"{kind}VisionModelWithProjection", f"{kind}VisionModel")
        part = next((name for name in names if hasattr(transformers, name)), None)
        return f'. Its part for images is --model-args \'{{"class": "{part}"}}\'' if part else ""


def open_processor(
    comm: Comm, transformers: Any, name: str, small: str, architecture: Any, settings: Any, trust_code: bool
) -> ImageProcessor:
    """Return the image processor of a folder; every rank calls this, and all get rank 0's kind.

    Args:
        comm: the ranks.
        transformers: the library.
        name: name of the model, for messages.
        small: this rank's folder with the model's small files.
        architecture, settings: class and configuration of the model.
        trust_code: whether code in the folder may run.

    Raises:
        ModelError: ranks would prepare images in different ways; on every rank alike.
    """
    if architecture.main_input_name != _PIXELS:
        return ImageProcessor(name, architecture, settings, None)

    def load(backend: str | None) -> Any:
        try:
            return _load(transformers, name, small, trust_code, backend)
        except RunnerError as error:
            return error

    of_rank_0 = load(None) if comm.world.rank == 0 else None
    kind, backend = comm.bcast((_kind(of_rank_0), getattr(of_rank_0, "backend", None)))
    processor = load(backend) if of_rank_0 is None else of_rank_0

    def compare() -> None:
        if _kind(processor) != kind:
            raise ModelError(
                f"{name}: images would be prepared by {_kind(processor)} here, by {kind} on rank 0. Transformers, "
                "torchvision and Pillow must be the same on every host"
            )

    comm.on_each(compare)
    return ImageProcessor(name, architecture, settings, processor)


def _load(transformers: Any, name: str, small: str, trust_code: bool, backend: str | None) -> Any:
    if not _has_processor(Path(small)):
        raise ModelError(
            f"{name} has no image processor in it ({' or '.join(PROCESSOR_FILES)}), which says how pixels are scaled, "
            "cut and normalized. Save it there with save_pretrained; or prepare images with --preprocess "
            "module:function, or before, as rows of floating-point numbers"
        )
    import_extra("PIL", f"{name}: preparing images", "images")
    try:
        return transformers.AutoImageProcessor.from_pretrained(
            small, local_files_only=True, trust_remote_code=trust_code, backend=backend
        )
    except Exception as error:
        raise ModelError(f"{name}: its image processor cannot be loaded: {describe(error)}") from error


def _has_processor(folder: Path) -> bool:
    if (folder / PROCESSOR_FILES[0]).exists():
        return True
    for file, key in ((PROCESSOR_FILES[1], "image_processor"), ("config.json", "pretrained_cfg")):
        if (folder / file).exists() and key in json.loads((folder / file).read_text()):
            return True
    return False


def _kind(processor: Any) -> str:
    """Describe what prepares the images: the full name of the processor's class, or "nothing"."""
    if isinstance(processor, UsageError | ModelError):
        return "nothing"
    return f"{type(processor).__module__}.{type(processor).__qualname__}"


def _takes_order(processor: Any) -> bool:
    """Return whether a processor takes the position of the channels; others get Pillow images, which define it."""
    parameters = inspect.signature(processor.preprocess).parameters.values()
    return any(p.name == "input_data_format" or p.kind is p.VAR_KEYWORD for p in parameters)


def _num_channels(settings: Any) -> int:
    for part in (settings, *(getattr(settings, name, None) for name in _PARTS)):
        if channels := getattr(part, "num_channels", None):
            return int(channels)
    return 3
