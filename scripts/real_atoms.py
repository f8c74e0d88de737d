"""Published potentials, whose rows are structures and whose forces are gradients: CHGNet and SevenNet."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_case import Answer, Case
from torch import nn


def structures() -> list[Any]:
    """Make crystals of 2 to 32 atoms, each atom a little off its place, as ASE's atoms."""
    from ase.build import bulk

    crystals = [
        ("NaCl", "rocksalt", 5.64),
        ("MgO", "rocksalt", 4.21),
        ("Si", "diamond", 5.43),
        ("GaAs", "zincblende", 5.65),
    ]
    made = []
    for number in range(18):
        name, kind, side = crystals[number % len(crystals)]
        atoms = bulk(name, kind, a=side, cubic=number % 3 == 0).repeat((1 + number % 2, 1 + number // 9, 1))
        atoms.rattle(0.08, seed=number)
        made.append(atoms)
    return made


def save(made: list[Any], path: Path) -> None:
    """Write structures, each a line of JSON."""
    rows = [
        {"numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist(), "cell": atoms.cell.tolist()}
        for atoms in made
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def load(row: str) -> Any:
    """Return the structure of a row as ASE's atoms."""
    from ase import Atoms

    return Atoms(**json.loads(row), pbc=True)


@functools.cache
def converter() -> Any:
    """Make what turns structures to the graphs of CHGNet."""
    from chgnet.graph import CrystalGraphConverter

    return CrystalGraphConverter(atom_graph_cutoff=6, bond_graph_cutoff=3, verbose=False)


def to_crystal_graphs(rows: list[str]) -> list[Any]:
    """Turn rows to the graphs that CHGNet takes."""
    from pymatgen.io.ase import AseAtomsAdaptor

    return [converter()(AseAtomsAdaptor.get_structure(load(row))) for row in rows]


class CHGNetForces(nn.Module):
    """CHGNet with the forces of each structure as one row of a nested tensor."""

    def __init__(self) -> None:
        super().__init__()
        from chgnet.model import CHGNet

        self.model = CHGNet.load(use_device="cpu", verbose=False)

    def forward(self, graphs: list[Any]) -> dict[str, torch.Tensor]:
        found = self.model(graphs, task="efsm")
        nested = {name: torch.nested.as_nested_tensor(found[key], layout=torch.jagged) for name, key in NESTED.items()}
        return {"energy": found["e"], "stress": torch.stack(found["s"]), **nested}


NESTED = {"forces": "f", "moments": "m"}


def chgnet(folder: Path) -> list[Case]:
    """Energies, forces, stresses and magnetic moments by CHGNet."""
    model = CHGNetForces().model
    made = structures()
    save(made, folder / "structures.txt")
    rows = (folder / "structures.txt").read_text().splitlines()
    answers = [model.predict_graph(graph) for graph in to_crystal_graphs(rows)]
    keys = {"energy": "e", "stress": "s", **NESTED}
    expected: Answer = {name: [np.asarray(answer[key]) for answer in answers] for name, key in keys.items()}
    options = {"model": "real_atoms:CHGNetForces", "preprocess": "real_atoms:to_crystal_graphs"}
    options |= {"data": str(folder / "structures.txt")}
    says = f"{len(made)} crystals of {min(map(len, made))} to {max(map(len, made))} atoms"
    return [Case("CHGNet 0.3.0", "chgnet 0.4.2", says, "`CHGNet.predict_graph`", options, expected, 2e-5)]


CUTOFF = 5.0  # of SevenNet-0


def to_atom_graphs(rows: list[str]) -> Any:
    """Turn rows to the one batch of graphs that SevenNet takes."""
    from sevenn.atom_graph_data import AtomGraphData
    from sevenn.train.dataload import unlabeled_atoms_to_graph
    from torch_geometric.data import Batch

    graphs = [AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(load(row), CUTOFF)) for row in rows]
    return Batch.from_data_list(graphs)


class SevenNetForces(nn.Module):
    """SevenNet-0 with the forces of each structure as one row of a nested tensor."""

    def __init__(self) -> None:
        super().__init__()
        from sevenn.util import model_from_checkpoint

        self.model, config = model_from_checkpoint("7net-0")
        assert config["cutoff"] == CUTOFF
        self.model.set_is_batch_data(True)

    def forward(self, graphs: Any) -> dict[str, torch.Tensor]:
        found = self.model(graphs)
        forces = list(found["inferred_force"].split(graphs["num_atoms"].tolist()))
        nested = torch.nested.as_nested_tensor(forces, layout=torch.jagged)
        return {"energy": found["inferred_total_energy"], "forces": nested}


def sevennet(folder: Path) -> list[Case]:
    """Energies and forces by SevenNet-0."""
    from sevenn.calculator import SevenNetCalculator

    made = structures()
    save(made, folder / "structures.txt")
    calculator = SevenNetCalculator("7net-0", device="cpu")
    expected: Answer = {"energy": [], "forces": []}
    for atoms in made:
        atoms.calc = calculator
        expected["energy"].append(np.array(atoms.get_potential_energy()))
        expected["forces"].append(atoms.get_forces())
    options = {"model": "real_atoms:SevenNetForces", "preprocess": "real_atoms:to_atom_graphs"}
    options |= {"data": str(folder / "structures.txt")}
    says = f"{len(made)} crystals of {min(map(len, made))} to {max(map(len, made))} atoms"
    return [Case("SevenNet-0", "sevenn 0.13.0", says, "`SevenNetCalculator`", options, expected, 2e-5)]
