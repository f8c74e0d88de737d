"""Published models through the runner, compared with what their own libraries answer.

    scripts/real_models.sh              all of them, in an environment made for it
    scripts/real_models.sh Magika CREPE only these

Each runs on one rank and on two. The runner must give what the library gives, with the same bytes at both numbers of
ranks, or refuse the job by name where that is expected. Prints a Markdown table; exits with 1 where something differs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import real_atoms
import real_audio
import real_images
import real_texts
from real_case import Case, difference, read

RANKS = (1, 2)
DEFAULTS = {"threads": 1, "batch_size": 4, "chunk_size": 8}
MODELS: dict[str, Callable[[Path], list[Case]]] = {
    "MiniLM": real_texts.minilm,
    "Magika": real_texts.magika,
    "Silero": real_audio.silero,
    "CREPE": real_audio.crepe,
    "Resemblyzer": real_audio.resemblyzer,
    "DNSMOS": real_audio.dnsmos,
    "BasicPitch": real_audio.basic_pitch,
    "PP-OCR": real_images.paddle_ocr,
    "MTCNN": real_images.mtcnn,
    "EasyOCR": real_images.easyocr,
    "CHGNet": real_atoms.chgnet,
    "SevenNet": real_atoms.sevennet,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}; by default all")
    parser.add_argument("--jobs", type=Path, help=argparse.SUPPRESS)  # what this program calls itself with, on ranks
    given = parser.parse_args()
    if given.jobs:
        run_jobs(given.jobs)
        return 0
    if unknown := set(given.names) - set(MODELS):
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        return compare(given.names or list(MODELS), Path(folder))


def compare(names: list[str], folder: Path) -> int:
    """Run the models on each number of ranks, print the table, and return the exit code."""
    import torch

    torch.set_num_threads(1)
    cases = []
    for name in names:
        print(f"{name}: its library answers", file=sys.stderr, flush=True)
        (own := folder / name).mkdir()
        cases += MODELS[name](own)
    for ranks in RANKS:
        launch(cases, folder, ranks)
    print("| model | package | rows | compared with | largest difference | 1 and 2 ranks |")
    print("| --- | --- | --- | --- | --- | --- |")
    good = True
    for number, case in enumerate(cases):
        is_right, says, ranks = verdict(case, folder, number)
        good = good and is_right
        print(f"| {case.model} | {case.package} | {case.rows} | {case.library} | {says} | {ranks} |", flush=True)
    return 0 if good else 1


def launch(cases: list[Case], folder: Path, ranks: int) -> None:
    """Run all jobs on so many ranks, one after another in the same processes."""
    jobs = [
        {**DEFAULTS, **case.options, "output": str(folder / f"{number}-{ranks}{case.suffix}")}
        for number, case in enumerate(cases)
    ]
    path = folder / f"jobs-{ranks}.json"
    path.write_text(json.dumps(jobs))
    command = [sys.executable, __file__, "--jobs", str(path)]
    if ranks > 1:
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), *command]
    as_root = {f"{p}_ALLOW_RUN_AS_ROOT{s}": "1" for p in ("OMPI", "PRTE") for s in ("", "_CONFIRM")}
    with (folder / f"log-{ranks}.txt").open("w") as log:
        environment = {**os.environ, **as_root, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, cwd=folder, check=False, stdout=log, stderr=subprocess.STDOUT)


def run_jobs(path: Path) -> None:
    """Be one rank of the jobs; what one of them was refused for lies beside its output."""
    import runner
    from runner.host.launch import detect_launch

    warnings.simplefilter("ignore")
    for options in json.loads(path.read_text()):
        try:
            runner.predict(**options)
        except runner.RunnerError as error:
            if detect_launch().rank == 0:
                Path(f"{options['output']}.error").write_text(f"{error}")


def verdict(case: Case, folder: Path, number: int) -> tuple[bool, str, str]:
    """Compare a job's predictions with the library's answers: whether they are right, by how much, at which ranks."""
    paths = [folder / f"{number}-{ranks}{case.suffix}" for ranks in RANKS]
    errors = [Path(f"{path}.error") for path in paths]
    if case.refusal:
        said = [error.read_text() if error.exists() else "not refused" for error in errors]
        is_right = all(case.refusal in text for text in said) and not any(path.exists() for path in paths)
        return is_right, f"refused: {said[0].split(': ')[0]}; {case.refusal}" if is_right else f"WRONG: {said}", "-"
    for path, error, ranks in zip(paths, errors, RANKS, strict=True):
        if not path.exists():
            said = [error.read_text()] if error.exists() else (folder / f"log-{ranks}.txt").read_text().splitlines()
            return False, f"FAILED at {ranks}: {said[-1] if said else 'no message'}", "-"
    try:
        gap = difference(case.expected, read(paths[0]))
    except ValueError as error:
        return False, f"WRONG: {error}", "-"
    is_same = paths[0].read_bytes() == paths[1].read_bytes()
    says = "0" if gap == 0 else f"{gap:.1e}"
    is_close = gap <= case.tolerance
    return is_close and is_same, says if is_close else f"WRONG: {says}", "same bytes" if is_same else "DIFFERENT BYTES"


if __name__ == "__main__":
    sys.exit(main())
