"""Files of weights and models of every kind that users have, and what PyTorch makes of each."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import checkpointed
import numpy as np
import torch
from launch import TESTS, Outcome
from reference import random_rows
from safetensors.torch import save_model
from torch import nn

NUM_ROWS, BATCH_SIZE = 70, 32
PLAIN = {"model": "checkpointed:plain"}


def predict(model: Callable[..., torch.Tensor], rows: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return torch.cat([model(batch).float() for batch in rows.split(BATCH_SIZE)]).numpy()


def write_files(folder: Path) -> None:
    """Write files of every kind, `kinds.json` with the options of each, and what must come out of it."""
    np.save(folder / "rows.npy", random_rows(NUM_ROWS, checkpointed.WIDTH))
    rows = torch.from_numpy(np.load(folder / "rows.npy"))
    torch.set_num_threads(1)
    model = checkpointed.trained()
    state, expected = model.state_dict(), predict(model, rows)
    other = checkpointed.plain(seed=3).state_dict()
    kinds: dict[str, tuple[dict[str, object], np.ndarray]] = {}

    def add(name: str, content: object = None, **options: object) -> None:
        if content is not None:
            torch.save(content, folder / name)
        kinds[name] = {**PLAIN, "weights": str(folder / name), **options}, expected

    def under(prefix: str) -> dict[str, torch.Tensor]:
        return {f"{prefix}{name}": tensor for name, tensor in state.items()}

    # suffixes
    add("pytorch_model.bin", state)
    add("best.pth.tar", {"epoch": 3, "arch": "plain", "state_dict": state, "best_acc1": torch.tensor(0.9)})
    add("last.ckpt", {"state_dict": under("model."), "pytorch-lightning_version": "2.6.6", "loops": {}})
    add("nosuffix", state)
    torch.save(state, folder / "old.bin", _use_new_zipfile_serialization=False)
    add("old.bin")
    save_model(model, str(folder / "safe.bin"))
    add("safe.bin")
    for number, part in enumerate((list(state)[:3], list(state)[3:])):
        torch.save({name: state[name] for name in part}, folder / f"part-{number}.bin")
    places = {name: f"part-{int(position >= 3)}.bin" for position, name in enumerate(state)}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {"x": 1}, "weight_map": places}))
    add("pytorch_model.bin.index.json")
    # entries
    several = {"model_state": state, "ema": other, "best": {"params_ema": state}, "list": [other, state]}
    add("model_state.pt", several, weights_key="model_state")
    add("params_ema.pt", several, weights_key="best.params_ema")
    add("list.pt", several, weights_key="list.1")
    add("model_ema.pt", {"model": other, "model_ema": state}, weights_key="model_ema")
    # names
    loss = {"loss.w": torch.ones(2)}
    add("wrapped.pt", under("backbone.") | loss, strip_prefix="backbone.", ignore_keys=["loss.*"])
    add("compiled.pt", under("module._orig_mod.") | loss, strip_prefix="module.", ignore_keys="loss.*")
    swa = {"n_averaged": torch.tensor(3), **under("module.")}
    add("averaged.pt", swa, strip_prefix="module.", ignore_keys=["n_averaged"])
    add("more.pt", state | {"criterion.weight": torch.ones(4), "queue": torch.ones(9)}, ignore_keys="criterion.*,queue")
    # dtypes
    exact = checkpointed.trained(torch.float16)
    add("half.pt", exact.state_dict())
    kinds["half.pt"] = kinds["half.pt"][0], predict(exact.float(), rows)
    finer = checkpointed.trained(torch.float64)
    nn.init.normal_(finer[0].weight)  # values that float32 does not have
    add("double.pt", finer.state_dict(), dtype="float32")
    kinds["double.pt"] = kinds["double.pt"][0], predict(finer.float(), rows)
    add("rounded.pt", state, dtype="bfloat16")
    kinds["rounded.pt"] = (
        kinds["rounded.pt"][0],
        predict(checkpointed.trained(torch.bfloat16), rows.to(torch.bfloat16)),
    )
    # modules that load in ways of their own
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = checkpointed.normed(old=True)
    for name, module in {"normed": old, "Scaled": checkpointed.Scaled(3.0), "Tied": checkpointed.Tied()}.items():
        torch.save(module.state_dict(), folder / f"{name}.pt")
        options = {"model": f"checkpointed:{name}", "weights": str(folder / f"{name}.pt")}
        kinds[name] = options, predict(module, rows)
    # what Lightning's own trainer has saved
    path = TESTS / "data/lightning.ckpt"
    trained, held = checkpointed.classifier(), torch.load(path)["state_dict"]
    trained.load_state_dict({n.removeprefix("net."): t for n, t in held.items() if n.startswith("net.")})
    names = {"strip_prefix": "net.", "ignore_keys": ["loss.*"]}
    options = {"model": "checkpointed:classifier", "weights": str(path), **names}
    kinds["lightning"] = options, predict(trained, rows)

    # whole models, none of them under its usual suffix
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(model)
        for name in ("script.jit", "script.ts", "script.torchscript", "script.pth", "script"):
            torch.jit.save(script, folder / name, _extra_files={"models/labels.json": "{}"})
        script._save_for_lite_interpreter(str(folder / "script.ptl"))
        open_size = {0: torch.export.Dim("batch", min=1)}
        program = torch.export.export(model, (rows[:2],), dynamic_shapes=(open_size,))
        torch.export.save(program, folder / "program.pt2")
        torch.onnx.export(
            model, (rows[:2],), folder / "open.onnx", dynamic_shapes=(open_size,), external_data=False, verbose=False
        )
    (folder / "program.pt2").rename(folder / "program.pt")
    (folder / "open.onnx").rename(folder / "open.model")
    for path in sorted(folder.glob("script*")):
        kinds[path.name] = {"model": str(path), "trust_pickle": True}, expected
    kinds["program.pt"] = {"model": str(folder / "program.pt"), "trust_pickle": True}, predict(program.module(), rows)
    kinds["open.model"] = {"model": str(folder / "open.model")}, expected

    (folder / "kinds.json").write_text(json.dumps({name: options for name, (options, _) in kinds.items()}))
    for name, (_, array) in kinds.items():
        np.save(folder / f"expected-{name}.npy", array)


def assert_refused(outcome: Outcome, code: int, says: str) -> None:
    assert (outcome.code, outcome.output.count("runner: error")) == (code, 1), outcome.output
    assert says in outcome.output, outcome.output
    assert "Traceback" not in outcome.output or "ZeroDivisionError" in outcome.output
