#!/usr/bin/env bash
# pyarrow 26.0.1 casts hexadecimal text that fills all bits of a signed type to a negative number: 0xff becomes -1 in int8, and
# 0xffffffffffffffff in int64. Decimal text of the same value is an error, and in a wider type the value is right.
# Seen: "int8: [-1]", "int16: [255]", "int64: [-1]", "decimal: error". Fails where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q pyarrow==26.0.1
cat >cast.py <<'PY'
import pyarrow

print("int8:", pyarrow.array(["0xff"]).cast(pyarrow.int8()).to_pylist())
print("int16:", pyarrow.array(["0xff"]).cast(pyarrow.int16()).to_pylist())
print("int64:", pyarrow.array(["0xffffffffffffffff"]).cast(pyarrow.int64()).to_pylist())
try:
    print("decimal:", pyarrow.array(["255"]).cast(pyarrow.int8()).to_pylist())
except pyarrow.ArrowInvalid:
    print("decimal: error")
PY
venv/bin/python cast.py 2>err | tee out || { cat err >&2 && exit 1; }
diff out - <<'EXPECTED'
int8: [-1]
int16: [255]
int64: [-1]
decimal: error
EXPECTED
