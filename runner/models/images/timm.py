"""Folders saved by timm's `save_for_hf` and `push_to_hf_hub`: config.json and the weights, read by timm."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.config.options import Config
from runner.core.errors import ModelError, UsageError, describe
from runner.core.imports import import_extra
from runner.data.rows import name_rows
from runner.data.tensors import FileList
from runner.host.environment import set_default
from runner.models.images.reading import are_channels_last, as_pictures, images_in, open_files
from runner.models.weights.broadcast import spread
from runner.models.weights.files import broadcast_small_files

_OPTIONS = ("features",)


def is_timm_folder(path: str) -> bool:
    """Return whether a folder's config.json is timm's own, not one of Transformers around a timm model."""
    try:
        config_json = json.loads((Path(path) / "config.json").read_text())
    except (OSError, ValueError):  # whoever opens it as a folder says why
        return False
    is_timm = isinstance(config_json, dict) and "architecture" in config_json
    return is_timm and not config_json.keys() & {"architectures", "model_type"}


def build_from_timm(config: Config, comm: Comm, device: torch.device) -> tuple["TimmModel", str]:
    """Return the model on `device`, with the transform of its configuration, and the digest of its weights.

    Raises:
        UsageError: timm is missing, or `model_args` are not valid.
        ModelError: the folder cannot be used.
    """
    name = f"--model {config.model}"
    comm.on_each(lambda: _check_options(config.model_args))
    comm.on_each(_import_timm)
    small = broadcast_small_files(comm, Path(str(config.model)), ["config.json"])
    wants_features = bool(config.model_args.get("features"))
    return spread(
        comm,
        config,
        name,
        lambda: _make(name, str(config.model), wants_features, with_weights=True),
        lambda: _make(name, small, wants_features, with_weights=False),
        device,
    )


class TimmModel(nn.Module):
    """A timm model and its image transform.

    Args:
        name: name of the model, for messages.
        model: takes `(batch, channels, height, width)`.
        transform: maps a Pillow image to `(channels, height, width)`.
        channels: number of channels of an image.
    """

    def __init__(self, name: str, model: nn.Module, transform: Any, channels: int) -> None:
        super().__init__()
        self._name = name
        self._transform = transform
        self._channels = channels
        self.model = model

    @property
    def inspected_module(self) -> nn.Module:
        """The module that `inspect` describes."""
        return self.model

    def forward(self, images: torch.Tensor) -> Any:
        return self.model(images)

    def prepare_images(self, batch: Any, ids: Sequence[int]) -> torch.Tensor | None:
        """Return the model's input for a batch of images; None where the batch itself is that input. See `images_in`.

        Raises:
            ModelError: channels may be first or last; the transform fails, or its results differ in size.
            InputError: a file is not an image, or is damaged.
        """
        images = images_in(batch, self._name, ids)
        if images is None:
            return None
        if isinstance(images, FileList):
            pictures = open_files(images, ids)
        else:
            is_last = are_channels_last(images, self._channels, self._name, ids)
            if self._channels not in (1, 3):
                raise ModelError(
                    f"{self._name} takes images of {self._channels} channels, which timm's transform does not know: "
                    "prepare them with --preprocess module:function"
                )
            pictures = as_pictures(images, is_last)
        try:
            dtype = next(self.model.parameters()).dtype
            return torch.stack([self._transform(picture) for picture in pictures]).to(dtype)
        except Exception as error:
            raise ModelError(f"the transform of {self._name} failed on {name_rows(ids)}: {describe(error)}") from error


def _check_options(options: dict[str, Any]) -> None:
    for name in options:
        if name not in _OPTIONS:
            raise UsageError(
                f"--model-args: {name!r} is not one of {', '.join(_OPTIONS)}, which a folder of timm's takes"
            )
    if not isinstance(options.get("features", True), bool):
        raise UsageError(f"--model-args: features is true or false, not {options['features']!r}")


def _import_timm() -> Any:
    set_default("HF_HUB_OFFLINE", "1")  # compute nodes have no internet; nothing is to be asked for there
    return import_extra("timm", "a folder of timm's", "timm")


def _make(name: str, folder: str, wants_features: bool, with_weights: bool) -> TimmModel:
    timm = _import_timm()
    arguments = {"num_classes": 0} if wants_features else {}
    try:
        model = timm.create_model(f"local-dir:{folder}", pretrained=with_weights, **arguments)
        settings = timm.data.resolve_data_config({}, model=model)
        with torch.device("cpu"):
            transform = timm.data.create_transform(**settings)
    except Exception as error:
        raise ModelError(f"{name} cannot be loaded by timm: {describe(error)}") from error
    return TimmModel(name, model, transform, settings["input_size"][0])
