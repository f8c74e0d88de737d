"""Build a wheel of Horovod for the torch and the MPI of this environment: build_horovod.py FOLDER cpu|nccl [RPATH]

FOLDER gets the wheel. RPATH is where the library looks for libmpi, relative to itself, when MPI lies in the virtual
environment too; without it CMake writes in where it found MPI. HOROVOD_NCCL_HOME may name an NCCL.
Knows nothing about caching or installing: scripts/setup.sh does that.
"""

import importlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "0.28.1"
SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"

# Replacements and not a .patch file: a bare machine may have no `patch`, and so each change has its reason.
# (file, old, new): old must be there exactly once.
CHANGES = [
    # The headers of torch >= 2.1 need C++17; Horovod asks for 14 in two places.
    ("CMakeLists.txt", "set(CMAKE_CXX_STANDARD 14)", "set(CMAKE_CXX_STANDARD 17)"),
    ("horovod/torch/CMakeLists.txt", "set(CMAKE_CXX_STANDARD 14)", "set(CMAKE_CXX_STANDARD 17)"),
    # Python 3.12 has no distutils any more; setuptools' stand-in need not be there for ever. Here at build time ...
    (
        "horovod/torch/CMakeLists.txt",
        "from distutils.sysconfig import get_python_inc; print(get_python_inc())",
        "import sysconfig; print(sysconfig.get_path('include'))",
    ),
    # ... and here in every horovodrun.
    (
        "horovod/runner/js_run.py",
        "from distutils.spawn import find_executable",
        "from shutil import which as find_executable",
    ),
    # A build for the CPU needs no CUDA compiler, and a broken one must not end it ...
    (
        "CMakeLists.txt",
        "check_language(CUDA)\nif(NOT CMAKE_CUDA_COMPILER)",
        "if(DEFINED HOROVOD_GPU_OPERATIONS)\n    check_language(CUDA)\nendif()\n"
        "if(DEFINED HOROVOD_GPU_OPERATIONS AND NOT CMAKE_CUDA_COMPILER)",
    ),
    # ... but a torch with CUDA next to any CUDA toolkit made Horovod build its CUDA parts, asked for or not.
    # HAVE_CUDA is set by then if, and only if, HOROVOD_GPU_OPERATIONS asked for them.
    (
        "cmake/Modules/FindPytorch.cmake",
        'string(TOUPPER "${Pytorch_CUDA}" Pytorch_CUDA)',
        'string(TOUPPER "${Pytorch_CUDA}" Pytorch_CUDA)\nif(NOT HAVE_CUDA)\n    set(Pytorch_CUDA FALSE)\nendif()',
    ),
    # CMake bakes the absolute folders of this virtual environment into the library. A rpath relative to the library
    # ($ORIGIN/...) lets the finished wheel serve an environment anywhere; setup.sh gives it when MPI lives in there.
    (
        "horovod/torch/CMakeLists.txt",
        'PROPERTIES OUTPUT_NAME "mpi_lib_v2")',
        'PROPERTIES OUTPUT_NAME "mpi_lib_v2")\n'
        "if(DEFINED ENV{HOROVOD_RPATH})\n"
        "    set_target_properties(${PYTORCH_TARGET_LIB} PROPERTIES\n"
        '        BUILD_WITH_INSTALL_RPATH TRUE INSTALL_RPATH "$ENV{HOROVOD_RPATH}")\n'
        "endif()",
    ),
    # Debug information triples the size of the wheel and lengthens the build.
    ("setup.py", "else 'RelWithDebInfo'", "else 'Release'"),
    # Open MPI 5 refuses these two options with one dash; Open MPI 4 takes both forms.
    (
        "horovod/runner/mpi_run.py",
        "['-bind-to none', '-map-by slot']",
        "['--bind-to none', '--map-by slot']",
    ),
    # Open MPI 5 waits for a second at the start of every rank where libfabric is built in and no fabric is there.
    ("horovod/runner/mpi_run.py", "'-mca btl ^openib'", "'-mca btl ^openib,ofi'"),
    # MPICH's mpirun calls itself HYDRA; MPICH stands there only in some builds (horovod/horovod, pull request 3984).
    ("horovod/runner/mpi_run.py", "elif 'MPICH' in output:", "elif 'MPICH' in output or 'HYDRA' in output:"),
    # Each cycle of the background thread ends with all ranks together, but the pause until the next was counted from
    # its beginning, which is another moment on every rank: the early ones spun until the last had come, every time.
    (
        "horovod/common/operations.cc",
        "    should_shutdown |= response_list.shutdown();\n  }\n\n  return !should_shutdown;",
        "    should_shutdown |= response_list.shutdown();\n  }\n"
        "  state.last_cycle_start = std::chrono::steady_clock::now();\n\n  return !should_shutdown;",
    ),
    # With a timeline, the thread that writes it looked for work without a pause: a core of rank 0's host.
    (
        "horovod/common/timeline.cc",
        "std::this_thread::yield();",
        "std::this_thread::sleep_for(std::chrono::milliseconds(1));",
    ),
    # horovodrun becomes a shell that waits for mpirun, and a signal ended only that shell while the ranks went on:
    # with exec it is mpirun itself that gets the signal.
    (
        "horovod/runner/mpi_run.py",
        "['/bin/sh', '-c', mpirun_command], env)",
        "['/bin/sh', '-c', 'exec ' + mpirun_command], env)",
    ),
]


def pip(*arguments: str, **environment: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True, env={**os.environ, **environment})


def source(work: Path) -> Path:
    """Downloads the source as released, checks and unpacks it."""
    pin = work / "horovod.txt"
    pin.write_text(f"horovod=={VERSION} --hash=sha256:{SHA256}\n")
    pip("download", "--no-deps", "--no-build-isolation", "--no-binary=horovod", "--require-hashes", "-r", str(pin),
        "-d", str(work))  # fmt: skip
    with tarfile.open(work / f"horovod-{VERSION}.tar.gz") as archive:
        archive.extractall(work)  # checked by its hash
    return work / f"horovod-{VERSION}"


def patch(folder: Path) -> None:
    for name, old, new in CHANGES:
        path = folder / name
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            sys.exit(f"{name} of Horovod {VERSION}: expected once, found {text.count(old)} times: {old!r}")
        path.write_text(text.replace(old, new), encoding="utf-8")


def nccl_home(work: Path) -> Path:
    """A folder as Horovod looks for it. UNTESTED on a machine with a GPU, as is all of the nccl build."""
    import torch

    try:
        import nvidia.nccl
    except ImportError:
        pip("install", f"nvidia-nccl-cu{str(torch.version.cuda).split('.')[0]}")
        importlib.invalidate_caches()
        import nvidia.nccl
    wheel = Path(next(iter(nvidia.nccl.__path__)))
    home = work / "nccl"
    (home / "lib").mkdir(parents=True)
    (home / "include").symlink_to(wheel / "include")
    (home / "lib" / "libnccl.so").symlink_to(wheel / "lib" / "libnccl.so.2")  # the linker asks for libnccl.so
    return home


def have_cmake() -> bool:
    try:
        found = subprocess.run(["cmake", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return False
    return tuple(map(int, re.findall(r"\d+", found)[:2])) >= (3, 18)


def main() -> None:
    folder, operations, *rpath = sys.argv[1:]
    given_nccl_home = os.environ.get("HOROVOD_NCCL_HOME")
    for name in [name for name in os.environ if name.startswith("HOROVOD_")]:
        del os.environ[name]  # a site's or user's own must not change what is built
    if not have_cmake():
        pip("install", "cmake")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        options = {"WITH_MPI": "1", "WITH_PYTORCH": "1", "WITHOUT_GLOO": "1", "WITHOUT_NVTX": "1"}
        options |= {"WITHOUT_TENSORFLOW": "1", "WITHOUT_MXNET": "1"}
        if rpath:
            options["RPATH"] = rpath[0]
        if operations == "nccl":
            home = given_nccl_home or str(nccl_home(work))
            options |= {"GPU_OPERATIONS": "NCCL", "NCCL_LINK": "SHARED", "NCCL_HOME": home}
        tree = source(work)
        patch(tree)
        # Horovod's own choice is -j8 anywhere; each compiler takes about 1 GB.
        make = {"MAKEFLAGS": os.environ.get("MAKEFLAGS") or f"-j{min(8, len(os.sched_getaffinity(0)))}"}
        variables = {f"HOROVOD_{key}": value for key, value in options.items()}
        pip("wheel", "-v", "--no-deps", "--no-build-isolation", "-w", folder, str(tree), **variables, **make)


if __name__ == "__main__":
    main()
