#!/usr/bin/env bash
# SciPy 1.17.1: loadmat gives the complex numbers of a MATLAB file, and with mat_dtype=True, which is to give the types that
# MATLAB would have, their real parts alone: float64, with a warning of NumPy that names neither file nor variable.
# Seen: "loadmat: complex128 [(1+2j), (3-4j)]", "mat_dtype: float64 [1.0, 3.0]". Fails where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q scipy==1.17.1 numpy==2.4.6
cat >read.py <<'PY'
import io

import numpy
import scipy.io

file = io.BytesIO()
scipy.io.savemat(file, {"z": numpy.array([[1 + 2j, 3 - 4j]])})
for name, options in ("loadmat", {}), ("mat_dtype", {"mat_dtype": True}):
    file.seek(0)
    (row,) = scipy.io.loadmat(file, **options)["z"]
    print(f"{name}: {row.dtype} {row.tolist()}")
PY
venv/bin/python read.py 2>err | tee out || { cat err >&2 && exit 1; }
diff out - <<'EXPECTED'
loadmat: complex128 [(1+2j), (3-4j)]
mat_dtype: float64 [1.0, 3.0]
EXPECTED
