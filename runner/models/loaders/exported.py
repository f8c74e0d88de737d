"""Programs of torch.export, `.pt2` files."""

import zipfile
from typing import Any

import torch

from runner.calls.signature import Input, Signature, declared
from runner.comm import Comm
from runner.config.options import Config
from runner.core.errors import ModelError
from runner.models.weights.files import build_from_file

# operations that do something else in training mode, and the argument that says so
_TRAINING = {
    "dropout": 2,
    "dropout_": 2,
    "alpha_dropout": 2,
    "feature_dropout": 2,
    "feature_alpha_dropout": 2,
    "native_dropout": 2,
    "batch_norm": 5,
    "native_batch_norm": 5,
    "_native_batch_norm_legit": 5,
    "_native_batch_norm_legit_functional": 5,
    "cudnn_batch_norm": 5,
    "scaled_dot_product_attention": 4,
    "rrelu": 3,
}


def build_from_program(config: Config, comm: Comm, device: torch.device) -> tuple[Any, str]:
    """Return the program on `device`, and the digest of its file; for errors see `build_from_file`."""
    return build_from_file(_load, config, comm, device)


def _load(path: str, device: torch.device, config: Config) -> Any:
    """Return the program, ready to be called; its attribute `signature` describes its inputs.

    Raises:
        ModelError: the program was exported in training mode, or is a compiled package.
    """
    _refuse_compiled(path)
    with open(path, "rb") as file:
        program = torch.export.load(file)
    _refuse_training(program)
    signature = _signature(program, config)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    model: Any = program.module()
    model.signature = signature
    return model


def _signature(program: torch.export.ExportedProgram, config: Config) -> Signature:
    """Return the inputs of a program; a signature of anything where arguments are not plain tensors and numbers."""
    spec = program.call_spec.in_spec
    if spec is None:
        return Signature(more_positional=True, more_named=True)
    positional, named = spec.children()
    if not all(child.is_leaf() for child in [*positional.children(), *named.children()]):
        return Signature(more_positional=True, more_named=True)
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    kind = torch.export.graph_signature.InputKind.USER_INPUT
    places = [values[entry.arg.name] for entry in program.graph_signature.input_specs if entry.kind == kind]
    names = [entry.arg.name for entry in program.graph_signature.input_specs if entry.kind == kind]
    num_positional = positional.num_children
    names[num_positional:] = named.context or []
    inputs = [
        _input(name, value, by_keyword=index >= num_positional)
        for index, (name, value) in enumerate(zip(names, places, strict=True))
    ]
    least = 1
    most = None
    for value in places:
        if isinstance(value, torch.Tensor) and value.ndim and not isinstance(value.shape[0], int):
            allowed = program.range_constraints.get(value.shape[0].node.expr)
            if allowed is not None:
                least = max(1, int(allowed.lower))
                most = int(allowed.upper) if allowed.upper.is_Integer else None
            break
    return declared(inputs, num_positional, config.input, least, most)


def _input(name: str, value: Any, by_keyword: bool) -> Input:
    if not isinstance(value, torch.Tensor):
        return Input(name, is_scalar=True, of_rows=False, by_keyword=by_keyword)
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return Input(name, value.dtype, shape, by_keyword=by_keyword)


def _refuse_training(program: torch.export.ExportedProgram) -> None:
    for node in program.graph.nodes:
        name = str(node.target).removeprefix("aten.").partition(".")[0]
        place = _TRAINING.get(name) if node.op == "call_function" else None
        if place is not None and len(node.args) > place and node.args[place]:
            raise ModelError(
                f"was exported in training mode: its {name} gives a different answer at each call, or mixes the rows "
                "of a batch. Call model.eval() before torch.export.export"
            )


def _refuse_compiled(path: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return  # torch.export.load will say more
    if any("/aotinductor/" in name for name in names) and not any(
        name.endswith("/models/model.json") for name in names
    ):
        raise ModelError(
            "is a package compiled by AOTInductor for one kind of machine. Save the program it was compiled from, "
            "torch.export.save(program, PATH.pt2), and see --compile"
        )
