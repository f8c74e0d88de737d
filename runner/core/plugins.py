"""Formats that other installed packages add, by entry points.

A package names its class or function by the suffix of the files, without the dot:

    [project.entry-points."horovod_inference_runner.sources"]
    avro = "my_package:AvroSource"

Groups are `sources`, `sinks` and `models`. The built-in formats come first, and nothing is looked up for them.
"""

GROUP = "horovod_inference_runner"


def find_plugin(kind: str, path: str) -> tuple[str, str] | None:
    """Return the suffix of a path, and the `package.module:name` that an installed package gives for it, if one does.

    Args:
        kind: "sources", "sinks" or "models".
        path: of a file or folder.
    """
    from importlib.metadata import entry_points  # takes its time to import

    name = path.rstrip("/")
    entries = [entry for entry in entry_points(group=f"{GROUP}.{kind}") if name.endswith(f".{entry.name}")]
    longest = max(entries, key=lambda entry: len(entry.name), default=None)
    return (f".{longest.name}", longest.value) if longest else None
