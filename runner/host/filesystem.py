"""The kind of the file system that a folder is on."""

import os
from pathlib import Path

UNKNOWN = "an unknown file system"


def file_system(folder: Path) -> str:
    """Return the kind of a file system as the kernel calls it, such as `ext4`, `nfs4` or `lustre`.

    That is the one whose device the folder is on; else, as some file systems give folders devices of their own, the one
    with the longest mount point above it.
    """
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    above = ("", UNKNOWN)
    inside = f"{folder.resolve()}/"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        _, _, device_number, _, point, *_ = fields.split()
        kind = rest.split()[0]
        if device_number == number:
            return kind
        if inside.startswith(f"{point.rstrip('/')}/") and len(point) >= len(above[0]):
            above = point, kind
    return above[1]
