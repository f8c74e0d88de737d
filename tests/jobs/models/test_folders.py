"""Folders run as Transformers itself would run them: each row as it is alone, on any number of ranks."""

import itertools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from folder_cases import GENERATION, Cases, make_cases, wrong_rows
from launch import PROGRAMS, Outcome, environment, mpirun, predict_command, predict_here, python, run

import runner
from runner.models.language.settings import read_settings

SIZES = {"threads": 1, "batch_size": 6, "chunk_size": 6}
WAYS: dict[str, dict[str, Any]] = {
    "tensor": {"model_parallel": 2},
    "stages": {"model_parallel": 2, "pipeline_stages": 2},
    "disk": {"offload": "disk"},
}
# what each way of holding a model is tried with; weights that Transformers converts cannot stream from disk
OTHER_WAYS = {
    "tensor": ["two-ends", "half"],
    "stages": ["penalty", "max", "t5 encoder", "converted", "classifier without padding"],
    "disk": [*GENERATION, "half", "rwkv", "classifier without padding"],
}
ON_TWO = [
    "two-ends",
    "penalty",
    "mean_tokens of text",
    "adapter beside its base",
    "converted",
    "half",
    "gguf",
    "sounds",
]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    return make_cases(tmp_path_factory.mktemp("folders"))


def jobs_of(cases: Cases, output: Path, ways: dict[str, list[str]], plain: list[str]) -> dict[str, dict[str, Any]]:
    """The options of jobs by name and way, each with an output of its own."""
    found = {}
    for way, names in {"": plain, **ways}.items():
        for name in names:
            options = cases.jobs[name]
            file = output / f"{name}-{way}{Path(options.get('output', 'p.npy')).suffix}"
            found[f"{name}:{way}"] = {**SIZES, **options, **WAYS.get(way, {}), "output": str(file)}
    return found


def assert_right(cases: Cases, jobs: dict[str, dict[str, Any]]) -> None:
    wrong = [wrong_rows(cases, name.partition(":")[0], Path(options["output"])) for name, options in jobs.items()]
    assert not [what for what in wrong if what]


def test_each_row_is_as_alone(cases: Cases, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = jobs_of(cases, tmp_path, {"disk": OTHER_WAYS["disk"]}, list(cases.jobs))
    assert len(jobs) > 30
    for options in jobs.values():
        runner.predict(**options)
    assert_right(cases, jobs)
    assert capsys.readouterr().err.count("llama/ asks for num_beams 3; it has no effect") == 1
    assert np.load(jobs["half:disk"]["output"]).dtype == np.float16


def test_on_two_ranks(cases: Cases, tmp_path: Path) -> None:
    jobs = jobs_of(cases, tmp_path, {**OTHER_WAYS, "disk": ["two-ends", "half"]}, ON_TWO)
    (tmp_path / "jobs.json").write_text(json.dumps(list(jobs.values())))
    outcome = run([*mpirun(2), *python(), PROGRAMS / "several.py", tmp_path / "jobs.json"], tmp_path)
    assert outcome.code == 0, outcome.output
    assert_right(cases, jobs)
    for name in ("two-ends", "half"):
        plain, disk = (Path(jobs[f"{name}:{way}"]["output"]).read_bytes() for way in ("", "disk"))
        assert plain == disk, name


def test_on_three_ranks_to_the_byte(cases: Cases, tmp_path: Path) -> None:
    names = ["two-ends", "rwkv", "masked", "adapter alone"]
    jobs = jobs_of(cases, tmp_path, {}, names)
    (tmp_path / "jobs.json").write_text(json.dumps(list(jobs.values())))
    outcome = run([*mpirun(3), *python(), PROGRAMS / "several.py", tmp_path / "jobs.json"], tmp_path)
    assert outcome.code == 0, outcome.output
    assert_right(cases, jobs)
    for name, options in jobs_of(cases, tmp_path, {}, names).items():
        alone = tmp_path / f"alone{Path(options['output']).suffix}"
        runner.predict(**{**options, "output": str(alone), "overwrite": True})
        assert alone.read_bytes() == Path(options["output"]).read_bytes(), name


def test_the_cases_are_worth_comparing(cases: Cases) -> None:
    """Generation settings change tokens, and so would padding; poolings and heads differ."""
    for one, other in itertools.combinations([*GENERATION, "sampling"], 2):
        assert not np.array_equal(cases.expected[one], cases.expected[other]), (one, other)
    assert not np.allclose(cases.expected["max"], cases.expected["mean_tokens"], atol=1e-2)
    model = transformers.AutoModelForCausalLM.from_pretrained(cases.folder / "penalty")
    settings = read_settings(transformers, str(cases.folder / "penalty"))
    assert settings.to_dict() == model.generation_config.to_dict()
    assert settings.repetition_penalty == 1.3


def refused(folder: Path, model: str, args: dict[str, Any], *options: str) -> Outcome:
    words = ["--model", f"./{model}", "--data", "even.npy", "--output", "refused.npy", *options]
    outcome = predict_here(*words, "--model-args", json.dumps(args), folder=folder)
    assert outcome.output.count("runner: error") == 1, outcome.output
    assert not (folder / "refused.npy").exists()
    return outcome


REFUSED: list[tuple[int, str, str, dict[str, Any], list[str]]] = [
    (64, "pooling does not apply to EsmForMaskedLM, which has a head", "esm", {"pooling": "mean"}, []),
    (64, "max_new_tokens does not apply to BertModel, which has no head", "base", {"max_new_tokens": 5}, []),
    (64, "what applies is class, pooling, max_length", "base", {"decode": True}, []),
    (64, "score does not apply to BertModel", "base", {"score": True}, []),
    (64, "max_length does not apply to Wav2Vec2ForCTC", "sounds", {"max_length": 5}, []),
    (64, "score and decode cannot be combined", "llama", {"score": True, "decode": True}, []),
    (64, "max_new_tokens True is not a number of tokens", "llama", {"max_new_tokens": True}, []),
    (64, "class 'Esm2Model' is not in Transformers", "esm", {"class": "Esm2Model"}, []),
    (64, "AutoModelForCTC has no class for esm", "esm", {"class": "AutoModelForCTC"}, []),
    (64, "T5EncoderModel is for T5Config; --model", "esm", {"class": "T5EncoderModel"}, []),
    (64, "BertTokenizer is not a model of Transformers", "base", {"class": "BertTokenizer"}, []),
    (65, "lacks weights of BertForNextSentencePrediction", "base", {"class": "BertForNextSentencePrediction"}, []),
    (64, "the model generates tokens: --model-args '{\"max_new_tokens\": 20}'", "t5", {}, []),
    (64, "'temprature' is not one of", "llama", {"max_new_tokens": 5, "temprature": 1}, []),
    (65, "T5Model is an encoder-decoder, whose decoder is not run", "t5", {"class": "AutoModel"}, []),
    (65, "pooling mean_tokens needs the folder's tokenizer", "base", {"pooling": "mean_tokens"}, []),
    (64, "--offload cannot be combined with the adapter in --model adapter", "adapter", {}, ["--offload", "disk"]),
    (65, "holds an adapter of nobody/nothing, which is not a folder on this machine", "lonely", {}, []),
    (64, "is quantized (gptq), for which Transformers needs another library: pip install gptqmodel", "gptq", {}, []),
    (64, "is quantized (gptq), and --dtype cannot be combined with that", "gptq", {}, ["--dtype", "float16"]),
    (64, "--offload cannot be combined with the .gguf file", "gguf", {}, ["--offload", "disk"]),
    (65, "it holds an ONNX model: give --model onnx/model.onnx", "onnx", {}, []),
    (65, "generation_config.json cannot be used", "damaged", {"max_new_tokens": 5}, []),
    (65, "save what from_pretrained gives anew", "nomic", {}, ["--offload", "disk"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(cases: Cases) -> Path:
    """More folders, which are refused."""
    folder = cases.folder
    (folder / "onnx").mkdir()
    (folder / "onnx/model.onnx").touch()
    for name, of, file, change in (
        ("lonely", "adapter", "adapter_config.json", {"base_model_name_or_path": "nobody/nothing"}),
        ("gptq", "llama", "config.json", {"quantization_config": {"quant_method": "gptq", "bits": 4}}),
    ):
        shutil.copytree(folder / of, folder / name)
        found = json.loads((folder / name / file).read_text())
        (folder / name / file).write_text(json.dumps(found | change))
    shutil.copytree(folder / "llama", folder / "damaged")
    (folder / "damaged/generation_config.json").write_text('{"eos_token_id": ')
    return folder


def test_what_cannot_be(folders: Path) -> None:
    for code, says, model, args, options in REFUSED:
        outcome = refused(folders, model, args, *options)
        assert (outcome.code, says in outcome.output) == (code, True), (says, outcome.output)


@pytest.mark.parametrize(("library", "models"), [("peft", ["adapter", "both"]), ("gguf", ["gguf"])])
def test_without_a_library(library: str, models: list[str], folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    for model in models:
        outcome = refused(folders, model, {})
        assert outcome.code == 64
        assert f"pip install 'horovod-inference-runner[{library}]'" in outcome.output


@pytest.mark.parametrize(("model", "code"), [("esm", 65), ("both", 64)])
def test_a_library_that_is_broken_is_named(model: str, code: int, cases: Cases, tmp_path: Path) -> None:
    """As a torchvision for another PyTorch is, which Transformers needs for anything, once it is there."""
    (tmp_path / "torchvision").mkdir()
    broken = 'raise RuntimeError("operator torchvision::nms does not exist")'
    (tmp_path / "torchvision/__init__.py").write_text(broken)
    paths = ["--model", cases.folder / model, "--data", cases.folder / "tokens.parquet", "--output", "p.npy"]
    outcome = run(predict_command(*paths), tmp_path, env=environment(PYTHONPATH=str(tmp_path)))
    assert outcome.code == code, outcome.output
    assert "cannot" in outcome.output
    assert "RuntimeError: operator torchvision::nms does not exist" in outcome.output
    assert "Traceback" not in outcome.output
