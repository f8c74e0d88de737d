#!/usr/bin/env bash
# pyarrow 26.0.1 changes identifiers without a word when it infers the types of CSV and JSON lines. In CSV, leading zeros go
# (007 becomes 7) and hexadecimal text becomes its number (0x1F becomes 31). In both, whole numbers beyond 64 bits become
# float64, so that neighbors are equal. pyarrow.infer_type, too, gives int64 for numbers among which there is text.
# Seen: "csv: [7, 8] [31, 32]", "csv: True", "json: True", "infer_type: int64".
# Fails where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q pyarrow==26.0.1
cat >read.py <<'PY'
import io

import pyarrow
from pyarrow import csv, json

NEIGHBORS = "12345678901234567890", "12345678901234567891"
table = csv.read_csv(io.BytesIO(f"a,b,c\n007,0x1F,{NEIGHBORS[0]}\n008,0x20,{NEIGHBORS[1]}\n".encode()))
print("csv:", table["a"].to_pylist(), table["b"].to_pylist())
print("csv:", table["c"][0].as_py() == table["c"][1].as_py())
ids = json.read_json(io.BytesIO("".join(f'{{"id": {number}}}\n' for number in NEIGHBORS).encode()))["id"]
print("json:", ids[0].as_py() == ids[1].as_py())
print("infer_type:", pyarrow.infer_type([1, "x"]))
PY
venv/bin/python read.py 2>err | tee out || { cat err >&2 && exit 1; }
diff out - <<'EXPECTED'
csv: [7, 8] [31, 32]
csv: True
json: True
infer_type: int64
EXPECTED
