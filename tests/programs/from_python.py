"""`runner.predict` from a script: functions instead of names, arrays instead of files, twice in one job."""

import numpy as np
import pytest
import torch
import zoo
from reference import plain_loop, random_rows

import runner


def build(width: int) -> torch.nn.Module:
    return zoo.mlp(width)


if __name__ == "__main__":
    rows = random_rows(97, 8)
    first = runner.predict(model=build, model_args={"width": 7}, data=rows, batch_size=8, threads=1)
    second = runner.predict(
        model="zoo:mlp", data=torch.from_numpy(rows), postprocess=lambda out: out.argmax(dim=1), threads=1
    )
    assert first.num_rows == second.num_rows == 97
    assert first.output is None
    assert sum(rank.rows for rank in first.ranks) == 97
    assert (first.predictions is None) == (second.predictions is None)
    if first.predictions is not None:
        assert np.array_equal(first.predictions, plain_loop(zoo.mlp(7), rows, 8))
        assert np.array_equal(second.predictions, plain_loop(zoo.mlp(), rows, 32, lambda out: out.argmax(dim=1)))
        print(f"predictions on one of {first.world_size} ranks")
    with pytest.raises(runner.ModelError, match="no such architecture"):  # on every rank, and the job goes on
        runner.predict(model=zoo.raises, data=rows)
    assert runner.predict(model=zoo.Identity, data=rows[:0]).num_rows == 0
