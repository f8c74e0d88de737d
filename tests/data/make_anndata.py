"""How `anndata.zip` was made, by `python make_anndata.py NAME`: with anndata 0.12 `new`, with 0.7 `old`.

Beside the files is what the library itself reads of them.
"""

import json
import sys
import zipfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse

NUM_ROWS, NUM_GENES = 121, 37


def make(is_old: bool) -> anndata.AnnData:
    rows, rng = range(NUM_ROWS), np.random.default_rng(0)
    columns = {
        "kind": pd.Categorical([[None, "B cell", "T cell", "größe"][row % 4] for row in rows]),
        "batch": pd.Categorical([[10, 20, 5][row % 3] for row in rows]),
        "depth": rng.normal(size=NUM_ROWS),
        "number": np.arange(NUM_ROWS),
        "good": np.arange(NUM_ROWS) % 3 == 0,
    }
    if not is_old:
        columns |= {
            "count": pd.array([None if row == 60 else row for row in rows], dtype="Int32"),
            "flag": pd.array([None if row == 60 else row % 2 == 0 for row in rows], dtype="boolean"),
            "note": pd.array([None if row == 60 else f"n{row}" for row in rows], dtype="string"),
            "plain": np.array([f"p{row}" for row in rows], object),
        }
    observations = pd.DataFrame(columns, index=[f"cell {row}" for row in rows])
    matrix = scipy.sparse.random(NUM_ROWS, NUM_GENES, 0.2, "csr", np.float32, random_state=0)
    matrix[50:60] = 0
    matrix.eliminate_zeros()
    data = anndata.AnnData(matrix, observations, dtype="float32") if is_old else anndata.AnnData(matrix, observations)
    data.layers["counts"] = rng.integers(0, 9, (NUM_ROWS, NUM_GENES))
    data.layers["by column"] = scipy.sparse.csc_matrix(matrix)
    data.obsm["X_pca"] = rng.normal(size=(NUM_ROWS, 3))
    data.obsm["table"] = pd.DataFrame({"a": np.arange(NUM_ROWS)}, index=observations.index)
    data.obsm["sparse"] = scipy.sparse.csr_matrix(np.eye(NUM_ROWS))
    data.raw = data.copy()
    return data


def save_expected(path: Path, data: anndata.AnnData) -> None:
    matrices = {"X": data.X, "raw/X": data.raw.X, "layers/counts": data.layers["counts"]}
    matrices |= {f"obsm/{name}": data.obsm[name] for name in ("X_pca", "sparse")}
    matrices |= {name: data.obs[name].to_numpy() for name in ("depth", "number", "good")}
    matrices["obs/batch"] = data.obs["batch"].astype(int).to_numpy()
    dense = {name: values.toarray() if hasattr(values, "toarray") else values for name, values in matrices.items()}
    np.savez_compressed(f"{path}.npz", **dense)
    columns = {**{name: data.obs[name] for name in data.obs}, "obs_names": data.obs_names}
    plain = {name: [None if pd.isna(value) else value for value in column] for name, column in columns.items()}
    Path(f"{path}.json").write_text(json.dumps(plain, default=lambda value: value.item()))


def main() -> None:
    folder, is_old = Path(sys.argv[1]), sys.argv[1] == "old"
    folder.mkdir()
    data = make(is_old)
    if not is_old:
        anndata.settings.allow_write_nullable_strings = True
        for form in (2, 3):
            anndata.settings.zarr_write_format = form
            data.write_zarr(folder / f"{form}.zarr", chunks=(40, 20))
    for name in ("plain", "gzip"):
        data.write_h5ad(folder / f"{name}.h5ad", compression="gzip" if name == "gzip" else None)
    save_expected(folder / "expected", anndata.read_h5ad(folder / "plain.h5ad"))
    with zipfile.ZipFile("anndata.zip", "a", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file)


main()
