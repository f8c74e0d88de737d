"""Models of every awkward kind on real ranks: `weights.py FOLDER SHARE`. Each compares what it got with rank 0's."""

import sys
from pathlib import Path

import torch
import zoo

from runner.comm import connect
from runner.config.options import make_config
from runner.host.launch import detect_launch
from runner.models import build_model
from runner.models.weights.storages import named_tensors

if __name__ == "__main__":
    folder, share = Path(sys.argv[1]), sys.argv[2] == "share"
    comm = connect(detect_launch(), "horovod", "allgather", "cpu")
    torch.manual_seed(comm.world.rank)  # a factory that does not seed would differ by rank
    for model_name, weights in (("Odd", None), ("Odd", "odd.pt"), ("LooksAtItself", None), ("mlp", "mlp.safetensors")):
        own_path = folder / f"rank-{comm.world.rank}.pt"
        options = {
            "model": f"zoo:{model_name}",
            "data": [0.0],
            "share_weights": share,
            "weights": weights and str(folder / weights),
        }
        if comm.world.rank and weights:  # only rank 0 may open the weights: for the others there is no such file
            options["weights"] = str(folder / "not-there" / weights)
        model, digest = build_model(make_config(options), comm, torch.device("cpu"))
        if comm.world.rank == 0:
            torch.save((digest, dict(named_tensors(model)), model(torch.ones(3, 8))), folder / "rank-0.pt")
        comm.bcast(None)
        digest_0, tensors_0, output_0 = torch.load(folder / "rank-0.pt")
        assert digest == digest_0
        own = dict(named_tensors(model))
        assert own.keys() == tensors_0.keys(), own.keys() ^ tensors_0.keys()
        for name, tensor in tensors_0.items():
            assert own[name].dtype == tensor.dtype, name
            assert own[name].stride() == tensor.stride(), name
            assert torch.equal(own[name], tensor), name
        assert torch.equal(model(torch.ones(3, 8)), output_0)
        if model_name == "Odd":
            assert isinstance(model, zoo.Odd)
            assert model.head.weight is model.embed.weight  # still tied: one storage
            assert not model.training
        comm.bcast(None)
    if comm.world.rank == 0:
        print("all weights equal")
    comm.close()
