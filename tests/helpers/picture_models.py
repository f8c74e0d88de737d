"""Small models of images with random weights, each in a folder with the image processor that came with it."""

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import transformers
from PIL import Image
from timm.models import save_for_hf

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 16}
PATCHES = SMALL | {"patch_size": 8}
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
SQUARE = {"size": {"height": 16, "width": 16}}
CROP = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}}
ODD = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.9, 0.5, 0.7]}

# class of the model, its settings, class of its image processor, what it is to do
FOLDERS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "vit": ("ViTForImageClassification", PATCHES | {"num_labels": 5}, "ViTImageProcessor", SQUARE),
    "raw": (
        "ViTForImageClassification",
        PATCHES | {"num_labels": 5},
        "ViTImageProcessor",
        SQUARE | ODD | {"do_rescale": False},
    ),
    "half": ("ViTForImageClassification", PATCHES | {"num_labels": 5}, "ViTImageProcessor", SQUARE),
    "dinov2": ("Dinov2Model", PATCHES, "BitImageProcessor", CROP | ODD),
    "convnext": (
        "ConvNextForImageClassification",
        {"num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1], "num_labels": 5},
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 32}, "crop_pct": 0.7},
    ),
    "resnet": ("ResNetModel", STAGES, "ConvNextImageProcessor", {"size": {"shortest_edge": 400}, **ODD}),
    "swin": (
        "SwinForImageClassification",
        {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
        "ViTImageProcessor",
        {"size": {"height": 32, "width": 32}, "resample": 3, "do_normalize": False},
    ),
    "segformer": (
        "SegformerForSemanticSegmentation",
        {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "decoder_hidden_size": 16, "num_labels": 3},
        "SegformerImageProcessor",
        {"size": {"height": 32, "width": 48}},
    ),
    "clip": ("CLIPVisionModelWithProjection", PATCHES | {"projection_dim": 8}, "CLIPImageProcessor", CROP),
    "siglip": ("SiglipVisionModel", PATCHES, "SiglipImageProcessor", SQUARE | {"rescale_factor": 0.01}),
    "detr": (
        "DetrForObjectDetection",
        {
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 16,
            "decoder_ffn_dim": 16,
            "num_queries": 3,
            "num_labels": 4,
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
            "backbone": None,
        },
        "DetrImageProcessor",
        {"size": {"shortest_edge": 32, "longest_edge": 48}},
    ),
}
TIMM = {
    "test_vit": (3, 5),
    "test_resnet": (3, 4),
    "test_efficientnet": (3, 5),
    "test_convnext": (1, 4),
}  # channels, classes
NUM_ROWS, BATCH_SIZE = 11, 4
# rows of each model, so that every kind of rows meets several models
DATA = {
    "vit": "first.npy",
    "raw": "last.npy",
    "half": "photos::file",
    "dinov2": "last.npy",
    "convnext": "photos::file",
    "resnet": "photos.tar::jpg@file",
    "swin": "photos::file",
    "segformer": "first.npy",
    "clip": "photos::file",
    "siglip": "first.npy",
    "detr": "first.npy",
    "test_vit": "photos::file",
    "test_resnet": "last.npy",
    "test_efficientnet": "photos.tar::jpg@file",
    "test_convnext": "gray.npy",
}


def save_folder(folder: Path, name: str) -> None:
    """A model of Transformers and its image processor."""
    torch.manual_seed(0)
    class_name, settings, processor, does = FOLDERS[name]
    architecture = getattr(transformers, class_name)
    if name == "detr":
        backbone = transformers.ResNetConfig(**STAGES, out_features=["stage2"])
        settings = settings | {"backbone_config": backbone}
    model = architecture(architecture.config_class(**settings)).eval()
    if name == "half":
        model = model.to(torch.bfloat16)
    model.save_pretrained(folder, save_original_format=False)
    getattr(transformers, processor)(**does).save_pretrained(folder)
    if name == "siglip":  # as a processor saves it that is of texts, too
        inner = json.loads((folder / "preprocessor_config.json").read_text())
        (folder / "preprocessor_config.json").unlink()
        (folder / "processor_config.json").write_text(json.dumps({"image_processor": inner}))


def save_timm(folder: Path, name: str) -> None:
    """A model of timm."""
    torch.manual_seed(0)
    channels, classes = TIMM[name]
    model = timm.create_model(name, num_classes=classes, in_chans=channels).eval()
    save_for_hf(model, folder, safe_serialization=True)


def photographs(folder: Path, num_rows: int) -> list[Image.Image]:
    """Images of many sizes, kinds and turns in a folder, as Transformers opens them."""
    chance = np.random.default_rng(0)
    folder.mkdir()
    for row in range(num_rows):
        height, width = chance.integers(20, 60, 2)
        pixels = chance.integers(0, 256, (8, 8, 4), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((int(width), int(height)))
        exif = Image.Exif()
        exif[0x0112] = 1 + row % 8
        if row % 3:
            image.convert("RGB" if row % 2 else "L").save(folder / f"{row:03d}.jpg", exif=exif)
        else:
            image.save(folder / f"{row:03d}.png", exif=exif)
    return [transformers.image_utils.load_image(str(path)) for path in sorted(folder.iterdir())]


class Models:
    """A folder with models and rows, the images that these are, and what the libraries make of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, chance = folder, np.random.default_rng(1)
        for name in FOLDERS:
            save_folder(folder / name, name)
        for name in TIMM:
            save_timm(folder / name, name)
        pixels = chance.integers(0, 256, (NUM_ROWS, 3, 40, 33), dtype=np.uint8)
        np.save(folder / "first.npy", pixels)
        np.save(folder / "last.npy", pixels.transpose(0, 2, 3, 1))
        np.save(folder / "gray.npy", pixels[:, :1])
        photos = photographs(folder / "photos", NUM_ROWS)
        with tarfile.open(folder / "photos.tar", "w") as tar:
            for path in sorted((folder / "photos").iterdir()):
                tar.add(path, f"{path.stem}.jpg")
        images = [Image.fromarray(image) for image in pixels.transpose(0, 2, 3, 1)]
        grays = [Image.fromarray(image) for image in pixels[:, 0]]
        self.images = {"first.npy": images, "last.npy": images, "gray.npy": grays}
        self.images |= {"photos::file": photos, "photos.tar::jpg@file": photos}
        self.expected = {name: self.answer(name) for name in DATA}

    def answer(self, name: str, **arguments: Any) -> Mapping[str, np.ndarray]:
        """The library's own predictions."""
        torch.set_num_threads(1)
        call = self._by_timm(name, **arguments) if name in TIMM else self._by_transformers(name)
        images = self.images[DATA[name]]
        with torch.inference_mode():
            batches = [call(images[at : at + BATCH_SIZE]) for at in range(0, NUM_ROWS, BATCH_SIZE)]
        return {key: torch.cat([batch[key] for batch in batches]).float().numpy() for key in batches[0]}

    def _by_transformers(self, name: str) -> Any:
        folder = self.folder / name
        model: Any = getattr(transformers, FOLDERS[name][0]).from_pretrained(folder, dtype="auto").eval()
        processor = transformers.AutoImageProcessor.from_pretrained(folder)

        def call(images: list[Image.Image]) -> dict[str, torch.Tensor]:
            outputs = model(**processor(images, return_tensors="pt").to(model.dtype))
            names = ("logits", "pred_boxes", "image_embeds")
            head = {key: outputs[key] for key in names if key in outputs}
            return head or {"vector": outputs["pooler_output"].flatten(1)}

        return call

    def _by_timm(self, name: str, **arguments: Any) -> Any:
        model = timm.create_model(f"local-dir:{self.folder / name}", pretrained=True, **arguments).eval()
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
        return lambda images: {"only": model(torch.stack([transform(image) for image in images]))}
