#!/usr/bin/env bash
# deltalake 1.6.6: where a partition's value needs percent encoding, the paths of get_add_actions are encoded once more than the
# names of the files: a%2520b for the folder a%20b. Joined with the table's folder they name no file; those of file_uris do.
# Seen: "get_add_actions: p=a%2520b False", "file_uris: p=a%20b True". Fails where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q deltalake==1.6.6 pyarrow==26.0.1
cat >paths.py <<'PY'
import os

import deltalake
import pyarrow

deltalake.write_deltalake("table", pyarrow.table({"p": ["a b"], "x": [1]}), partition_by=["p"])
table = deltalake.DeltaTable("table")
added = pyarrow.table(table.get_add_actions(flatten=True))["path"][0].as_py()
uri = os.path.relpath(table.file_uris()[0], "table")
for name, path in ("get_add_actions", added), ("file_uris", uri):
    print(f"{name}: {os.path.dirname(path)} {os.path.exists(os.path.join('table', path))}")
PY
venv/bin/python paths.py 2>err | tee out || { cat err >&2 && exit 1; }
diff out - <<'EXPECTED'
get_add_actions: p=a%2520b False
file_uris: p=a%20b True
EXPECTED
