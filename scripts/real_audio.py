"""Published models of sound: Silero VAD, CREPE, Resemblyzer, DNSMOS and Basic Pitch."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from real_case import Case, array
from torch import nn

RATE = 16000


def sounds(rows: int, samples: int, rate: int = RATE) -> np.ndarray:
    """Make sounds `(rows, samples)` float32 with a tone of their own each, its overtones, and noise."""
    random = np.random.default_rng(0)
    times = np.arange(samples) / rate
    pitch = random.uniform(90, 400, (rows, 1)) * (1 + 0.02 * np.sin(2 * np.pi * 5 * times))
    phase = 2 * np.pi * np.cumsum(pitch, axis=1) / rate
    tones = sum(np.sin(k * phase) / k for k in range(1, 8)) * np.sin(2 * np.pi * 3 * times) ** 2
    return (0.2 * tones + 0.01 * random.normal(size=(rows, samples))).astype(np.float32)


class WholeClips(nn.Module):
    """Silero VAD over clips of many chunks: its `audio_forward` forgets the last clip before each one."""

    def __init__(self) -> None:
        super().__init__()
        import silero_vad

        self.model = silero_vad.load_silero_vad()

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.model.audio_forward(clips, RATE)


def probability(outputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Choose the probability among the outputs of Silero's ONNX file; the other is its state."""
    return outputs["output"]


def silero(folder: Path) -> list[Case]:
    """Silero VAD, whose TorchScript keeps a state between calls."""
    import silero_vad

    chunks, clips = sounds(22, 512), sounds(22, 8192)
    np.save(folder / "chunks.npy", chunks)
    np.save(folder / "clips.npy", clips)
    contexts = np.pad(chunks, ((0, 0), (64, 0)))  # what the ONNX file takes: the end of the last chunk before each
    np.save(folder / "contexts.npy", contexts)
    np.save(folder / "state.npy", np.zeros((2, 1, 128), np.float32))
    files = Path(silero_vad.__file__).parent / "data"
    model, onnx = silero_vad.load_silero_vad(), silero_vad.load_silero_vad(onnx=True)
    alone, by_onnx, whole = [], [], []
    for chunk, clip in zip(torch.from_numpy(chunks), torch.from_numpy(clips), strict=True):
        model.reset_states()
        alone.append(model(chunk, RATE)[0].detach().numpy())
        onnx.reset_states()
        by_onnx.append(onnx(chunk, RATE)[0].numpy())
        whole.append(model.audio_forward(clip[None], RATE)[0].detach().numpy())
    package = "silero-vad 6.2.3"
    jit = {"model": str(files / "silero_vad.jit"), "trust_pickle": True}
    jit |= {"data": str(folder / "chunks.npy"), "input": {"sr": RATE}}
    of_onnx = {"model": str(files / "silero_vad.onnx"), "data": f"{folder}/contexts.npy", "batch_size": 1}
    of_onnx |= {"input": {"sr": RATE, "state": f"{folder}/state.npy"}, "postprocess": "real_audio:probability"}
    of_clips = {"model": "real_audio:WholeClips", "data": str(folder / "clips.npy")}
    rows = "22 chunks of 512 samples"
    return [
        Case("Silero VAD, TorchScript", package, rows, "-", jit, refusal="--stateful reset"),
        Case(
            "Silero VAD, `--stateful reset`",
            package,
            rows,
            "the model after `reset_states()`",
            {**jit, "stateful": "reset"},
            array(alone),
            tolerance=2e-6,
        ),
        Case("Silero VAD, ONNX", package, rows, "`OnnxWrapper`", of_onnx, array(by_onnx), tolerance=1e-6),
        Case("Silero VAD, whole clips", package, "22 clips", "`audio_forward`", of_clips, array(whole), tolerance=2e-6),
    ]


def torchcrepe() -> Any:
    """Import torchcrepe, which reads files by torchaudio and needs it for nothing else."""
    sys.modules.setdefault("torchaudio", ModuleType("torchaudio"))  # PyPI has it for CUDA alone
    import torchcrepe

    return torchcrepe


def crepe_model(capacity: str) -> nn.Module:
    """Make CREPE without its weights."""
    return torchcrepe().Crepe(capacity)


def crepe(folder: Path) -> list[Case]:
    """Pitch by CREPE: 360 probabilities a frame."""
    library = torchcrepe()
    frames = next(library.preprocess(torch.from_numpy(sounds(1, RATE)), RATE, 250, device="cpu"))
    np.save(folder / "frames.npy", frames.numpy())
    cases = []
    for capacity in ("tiny", "full"):
        with torch.no_grad():
            answers = torch.cat([library.infer(batch, capacity) for batch in frames.split(4)])
        options = {"model": "real_audio:crepe_model", "model_args": {"capacity": capacity}}
        options |= {"weights": str(Path(library.__file__).parent / "assets" / f"{capacity}.pth")}
        options |= {"data": str(folder / "frames.npy")}
        rows = f"{len(frames)} frames"
        name = f"CREPE {capacity}"
        cases.append(Case(name, "torchcrepe 0.0.24", rows, "`torchcrepe.infer`", options, array(answers), 1e-6))
    return cases


def resemblyzer(folder: Path) -> list[Case]:
    """Embeddings of voices: the factory of the library, and its checkpoint named apart."""
    import resemblyzer

    encoder = resemblyzer.VoiceEncoder("cpu", verbose=False)
    (wav,) = sounds(1, 12 * RATE)
    _, partials, slices = encoder.embed_utterance(wav, return_partials=True)
    wav = np.pad(wav, (0, max(0, slices[-1].stop - len(wav))))
    mel = resemblyzer.wav_to_mel_spectrogram(wav)
    samples = RATE // 100
    np.save(folder / "mels.npy", np.array([mel[part.start // samples : part.stop // samples] for part in slices]))
    options = {"model": "resemblyzer:VoiceEncoder", "model_args": {"device": "cpu", "verbose": False}}
    options |= {"data": str(folder / "mels.npy")}
    file = {"weights": str(Path(resemblyzer.__file__).parent / "pretrained.pt"), "weights_key": "model_state"}
    file |= {"ignore_keys": "similarity_*"}
    rows, library = f"{len(slices)} spectrograms", "`VoiceEncoder.embed_utterance`"
    package = "resemblyzer 0.1.4"
    return [
        Case("Resemblyzer", package, rows, library, options, array(partials), tolerance=1e-6),
        Case("Resemblyzer, `--weights`", package, rows, library, {**options, **file}, array(partials), tolerance=1e-6),
    ]


def opinions(outputs: torch.Tensor) -> torch.Tensor:
    """Turn the raw scores `(rows, 3)` of DNSMOS to opinions, by the library's own polynomials."""
    from speechmos.dnsmos import DNSMOS

    scores = DNSMOS.get_polyfit_val(None, *outputs.numpy().T, False)
    return torch.from_numpy(np.stack(scores, axis=1))


def dnsmos(folder: Path) -> list[Case]:
    """The quality of speech by DNSMOS: three scores a clip."""
    from speechmos import dnsmos as library

    clips = sounds(9, int(library.INPUT_LENGTH * RATE))
    np.save(folder / "clips.npy", clips)
    answers = [library.run(clip, RATE) for clip in clips]
    names = ("sig_mos", "bak_mos", "ovrl_mos")
    options = {"model": str(Path(library.__file__).parent / "dnsmos_models" / "sig_bak_ovr.onnx")}
    options |= {"data": str(folder / "clips.npy"), "postprocess": "real_audio:opinions"}
    expected = array([[answer[name] for name in names] for answer in answers])
    return [Case("DNSMOS", "speechmos 0.0.1.1", "9 clips", "`speechmos.dnsmos.run`", options, expected, 2e-5)]


def basic_pitch(folder: Path) -> list[Case]:
    """Notes by Basic Pitch: an ONNX file of three outputs, exported from TensorFlow."""
    from basic_pitch import ICASSP_2022_MODEL_PATH
    from basic_pitch.constants import AUDIO_N_SAMPLES, AUDIO_SAMPLE_RATE
    from basic_pitch.predictor import Model

    path = Path(ICASSP_2022_MODEL_PATH).parent / "nmp.onnx"
    windows = sounds(9, AUDIO_N_SAMPLES, AUDIO_SAMPLE_RATE)[:, :, None]
    np.save(folder / "windows.npy", windows)
    library = Model(path)
    answers = [library.predict(window[None]) for window in windows]
    outputs = ("contour", "note", "onset")  # StatefulPartitionedCall:0, :1 and :2
    expected = {f"StatefulPartitionedCall:{n}": [a[name][0] for a in answers] for n, name in enumerate(outputs)}
    options = {"model": str(path), "data": str(folder / "windows.npy")}
    return [Case("Basic Pitch", "basic-pitch 0.4.0", "9 windows", "`basic_pitch` `Model`", options, expected, 1e-5)]
