"""Writes docs/options.md from the declarations of the options in runner/config/ and runner/cli/parser.py."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.cli.parser import make_parser
from runner.config.options import Config

PAGE = Path(__file__).parent.parent / "docs/options.md"

_HEAD = """# Options

Every option of every command. Commands are started as `hvd-runner COMMAND`; `python -m runner COMMAND` is the same,
unless the current folder has a module `runner` of its own, which Python would run. `--help` shows the same texts, and
bash and zsh [complete them](getting-started.md#shell-completion). `scripts/options_page.py` writes this page from the
declarations in `runner/config/` and `runner/cli/parser.py`.

"""
_GROUPS = {"model": "Model options", "data": "Data and output options", "work": "Execution options"}
_CONFIG = """
## Configuration file

`--config PATH` reads options of `predict` from a TOML file, under their names without the dashes in front (`batch-size`
or `batch_size`); the command line wins. Each run writes its options to such a file, `OUTPUT.run/config.toml`.

## Exit codes

See [exit codes](resume-and-failures.md#exit-codes).
"""
_OPTIONS_OF = {
    "models.md": "model model_args device preprocess postprocess stateful",
    "checkpoints.md": "weights weights_key strip_prefix ignore_keys trust_pickle",
    "hugging-face.md": "trust_code",
    "language-models.md": "prompt system messages",
    "data.md": "data columns keep types null data_args skip limit",
    "outputs.md": "output overwrite collect",
    "resume-and-failures.md": "fresh on_error on_nonfinite max_bad time_limit stall_timeout",
    "batches.md": "batch_size batch_tokens batch_cost batch_budget truncate",
    "architecture.md": "chunk_size",
    "clusters.md": "schedule comm threads",
    "large-models.md": "dtype channels_last compile share_weights offload model_parallel parallel_plan "
    "pipeline_stages split_points micro_batches",
    "exported-models.md": "stack input",
    "monitoring.md": "baseline trace metrics verbose",
}
_PAGES = {name: page for page, names in _OPTIONS_OF.items() for name in names.split()}


def write_page() -> str:
    """Return the page as it should be."""
    return _HEAD + "\n".join([*_predict(), *_other_commands()]) + _CONFIG


def _predict() -> Iterator[str]:
    yield "## predict\n\nRuns a model over a data set. `--model`, `--data` and `--output` are required.\n"
    for group, title in _GROUPS.items():
        yield f"### {title}\n\n| option | default | meaning | page |\n| --- | --- | --- | --- |"
        for field in dataclasses.fields(Config):
            if field.metadata["group"] == group:
                yield _row(_spelling(field), _default(field), field.metadata["help"], _link(field.name))
        yield ""
    yield "### Options from a file\n\n| option | meaning |\n| --- | --- |"
    yield "| `--config PATH` | a [TOML file](#configuration-file) of these options |\n"


def _spelling(field: "dataclasses.Field[Any]") -> str:
    option = f"--{field.name.replace('_', '-')}"
    if field.name == "verbose":
        return f"`{option}`, `-v`, `-vv`"
    values = [value for value in field.metadata["metavar"].split("|") if value]
    if not values:
        return f"`{option}`"
    if values[0].islower():  # a choice
        return f"`{option}` " + ", ".join(f"`{value}`" for value in values)
    return " or ".join(f"`{option} {value}`" for value in values)


def _default(field: "dataclasses.Field[Any]") -> str:
    is_unset = field.default in (None, "", (), False, dataclasses.MISSING) or field.name in ("skip", "verbose")
    return "" if is_unset else f"`{field.default}`"


def _link(name: str) -> str:
    page = _PAGES.get(name)
    return f"[{page.removesuffix('.md').replace('-', ' ')}]({page})" if page else ""


def _other_commands() -> Iterator[str]:
    commands = next(a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    for name, parser in commands.choices.items():
        if name == "predict":
            continue
        description = " ".join((parser.description or "").split())
        yield f"## {name}\n\n{_escape(description)}\n\n| argument | meaning |\n| --- | --- |"
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                yield _row(_argument(action), (action.help or "").replace("%%", "%"))
        yield ""


def _argument(action: argparse.Action) -> str:
    names = sorted(action.option_strings, key=len, reverse=True) or [str(action.metavar)]
    if action.choices:
        return f"`{names[0]}` " + ", ".join(f"`{choice}`" for choice in action.choices)
    takes_value = bool(action.option_strings) and action.nargs != 0
    values = str(action.metavar or action.dest.upper()).split("|") if takes_value else []
    if values and values[0].islower():
        return f"`{names[0]}` " + ", ".join(f"`{value}`" for value in values)
    return f"`{names[0]} {values[0]}`" if values else f"`{names[0]}`"


def _row(*cells: str) -> str:
    first, *rest = cells
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in (first, *map(_escape, rest)))


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


if __name__ == "__main__":
    page = write_page()
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PAGE.read_text() == page else f"{PAGE} is out of date: run scripts/options_page.py")
    PAGE.write_text(page)
