"""Weights: rank 0 alone reads them, every rank gets the same bytes."""

from pathlib import Path

import pytest
import torch
import zoo
from launch import PROGRAMS, mpirun, python, run
from safetensors.torch import save_model

from runner.core.errors import ModelError
from runner.models.weights.state_dict import WeightsFile, load_weights
from runner.models.weights.storages import digest, storages


@pytest.mark.parametrize(("ranks", "share"), [(1, "do not"), (2, "do not"), (3, "share")])
def test_every_rank_gets_the_weights_of_rank_0(ranks: int, share: str, tmp_path: Path) -> None:
    torch.manual_seed(7)
    torch.save(zoo.Odd().state_dict(), tmp_path / "odd.pt")
    save_model(zoo.mlp(seed=5), tmp_path / "mlp.safetensors")
    outcome = run([*mpirun(ranks), *python(), PROGRAMS / "weights.py", tmp_path, share], tmp_path)
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("all weights equal") == 1


@pytest.mark.parametrize("backend", ["horovod", "mpi"])
@pytest.mark.timeout(200)
def test_one_huge_tensor_and_very_many_tiny_ones(backend: str, tmp_path: Path) -> None:
    outcome = run([*mpirun(2), *python(), PROGRAMS / "broadcast.py", backend], tmp_path, timeout=180)
    assert outcome.code == 0, outcome.output
    assert f"Huge: 1 storages of {3 << 30} bytes" in outcome.output
    assert "Tiny: 15000 storages" in outcome.output


def test_tied_weights_are_one_storage_and_one_name_is_enough(tmp_path: Path) -> None:
    torch.manual_seed(7)
    model = zoo.Odd()
    names = [name for name, _ in storages(model)]
    assert "embed._parameters.weight" in names
    assert "head._parameters.weight" not in names
    save_model(model, str(tmp_path / "odd.safetensors"))  # keeps one of the two names
    loaded = zoo.Odd()
    with torch.no_grad():  # what no file holds
        loaded.hidden.copy_(model.hidden)
        loaded.plain.copy_(model.plain)
    assert digest(loaded) != digest(model)
    load_weights(loaded, WeightsFile(str(tmp_path / "odd.safetensors")))
    assert digest(loaded) == digest(model)


def test_digest_sees_one_bit() -> None:
    model = zoo.mlp()
    before = digest(model)
    model[2].running_mean.view(torch.uint8)[5].bitwise_xor_(1)
    assert digest(model) != before


def test_many_names_are_counted(tmp_path: Path) -> None:
    torch.save({f"layer{i}.weight": torch.zeros(1) for i in range(50)}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"layer5\.weight and 44 more"):
        load_weights(zoo.mlp(), WeightsFile(str(tmp_path / "w.pt")))
