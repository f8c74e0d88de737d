#!/usr/bin/env bash
# transformers 5.24.0 with torch 2.13.0: a whole model that torch.save has written gives no hidden states when it is loaded
# in a process that has built none of its class. Where the outputs of inner layers are to be had is kept in a table that
# only the constructor of the class fills; unpickling does not call it. Asked for output_hidden_states=True, the loaded
# model gives hidden_states None without a word, and its other outputs as ever; once a model of the class has been built
# in the process, the same loaded model gives them. What needs them inside, such as the decoder of Segformer, fails with
# "'NoneType' object is not subscriptable".
# Seen: "built here: 3 hidden states", "loaded elsewhere: None", "after one has been built: 3 hidden states".
# Fails where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 transformers==5.24.0
cat >make.py <<'PY'
import torch
from transformers import BertConfig, BertModel

config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=50)
model = BertModel(config).eval()
torch.save(model, "whole.pt")
ids = torch.arange(6)[None]
print("built here:", len(model(input_ids=ids, output_hidden_states=True).hidden_states), "hidden states")
PY
cat >load.py <<'PY'
import torch

model = torch.load("whole.pt", weights_only=False)
ids = torch.arange(6)[None]
print("loaded elsewhere:", model(input_ids=ids, output_hidden_states=True).hidden_states)
type(model)(model.config)
print("after one has been built:", len(model(input_ids=ids, output_hidden_states=True).hidden_states), "hidden states")
PY
{ venv/bin/python make.py && venv/bin/python load.py; } 2>err | tee out || { cat err >&2 && exit 1; }
diff out - <<'EXPECTED'
built here: 3 hidden states
loaded elsewhere: None
after one has been built: 3 hidden states
EXPECTED
