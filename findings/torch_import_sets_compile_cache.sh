#!/usr/bin/env bash
# PyTorch 2.13.0: importing torch._dynamo.config, as torch.distributed.pipelining and others do, sets
# TORCHINDUCTOR_CACHE_DIR in the environment of the process, though nothing is compiled. Every process that it starts
# afterwards has the variable, as if its user had chosen one folder for all of them; importing torch alone sets nothing.
# Seen: "torch: []", "dynamo: ['TORCHINDUCTOR_CACHE_DIR']". Fails where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
cat >import.py <<'PY'
import os

before = dict(os.environ)
import torch

print("torch:", sorted(os.environ.keys() - before.keys()))
import torch._dynamo.config

print("dynamo:", sorted(os.environ.keys() - before.keys()))
PY
env -u TORCHINDUCTOR_CACHE_DIR venv/bin/python import.py 2>err | tee out || { cat err >&2 && exit 1; }
diff out - <<'EXPECTED'
torch: []
dynamo: ['TORCHINDUCTOR_CACHE_DIR']
EXPECTED
