"""The rules of the house: what a stranger may rely on when reading the code."""

import ast
import dataclasses
import inspect
import json
import re
import tomllib

import pytest
from launch import ROOT

import runner
from runner.config.option import ANSWER, NOTHING, ROUNDING, SPEED
from runner.config.options import Config
from runner.config.removed import REMOVED

FILES = sorted((ROOT / "runner").rglob("*.py"))
MOST_LINES, MOST_LINES_OF_FUNCTION = 250, 60
LONG = {"predict"}  # a signature with every option, and what each does
NO_BEGINNINGS = re.compile(r"(Of|The same|What|As|And|It|From|By|For|Those|That|Who|Which)\b")


def trees() -> list[tuple[str, ast.Module]]:
    return [(str(path.relative_to(ROOT)), ast.parse(path.read_text())) for path in FILES]


def test_files_and_functions_are_short() -> None:
    long = [str(path) for path in FILES if len(path.read_text().splitlines()) > MOST_LINES]
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name not in LONG:
                lines = (node.end_lineno or 0) - node.lineno + 1
                long += [f"{name}: {node.name} has {lines} lines"] * (lines > MOST_LINES_OF_FUNCTION)
    assert len(FILES) > 200
    assert not long


def test_docstrings_stand_alone_in_a_tooltip() -> None:
    found, count = [], 0
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                count += 1
                if NO_BEGINNINGS.match(text):
                    found.append(f"{name}: {getattr(node, 'name', 'module')}: {text.splitlines()[0]}")
    assert count > 1000
    assert not found


def test_only_host_reads_the_environment() -> None:
    found = {str(path.relative_to(ROOT)) for path in FILES if re.search(r"os\.(environ|getenv)", path.read_text())}
    assert found
    assert [name for name in found if not name.startswith("runner/host/")] == []


def test_only_a_job_joins_its_stages() -> None:
    """And `plan` and `doctor`, which run a part of one; the layers of pyproject.toml keep all others from it."""
    joins = re.compile(r"from runner\.(engine\.(loop|summary)|collect\.collector|job\.\w+) import")
    found = {str(path.relative_to(ROOT)) for path in FILES if joins.search(path.read_text())}
    assert len(found) > 5
    allowed = ("runner/job/", "runner/engine/", "runner/commands/plan/", "runner/commands/doctor/", "runner/api.py")
    allowed += ("runner/cli/main.py", "runner/parallel/member.py")
    assert [name for name in found if not name.startswith(allowed)] == []


def test_only_a_job_makes_the_parts_of_its_stages() -> None:
    """`plan` and `doctor` call stages, in a session of their own."""
    parts = {"BatchRecovery", "Canary", "Collector", "Engine", "Predictor", "Session", "build_model", "probe"}
    parts |= {"find_postprocess", "find_preprocess", "make_batching", "make_schedule", "open_direct", "open_source"}
    elsewhere = {
        ("runner/commands/inspect.py", "build_model"),  # a model without data
        ("runner/commands/verify.py", "open_source"),  # an output, read as data
        ("runner/sources/many.py", "open_source"),  # one file of many
        ("runner/sources/shards.py", "open_source"),
    }
    made = {(name, called) for name, tree in trees() for called in calls(tree) & parts}
    assert {called for name, called in made if name.startswith("runner/job/")} == parts
    assert {(name, called) for name, called in made if not name.startswith("runner/job/")} == elsewhere


def calls(tree: ast.Module) -> set[str]:
    """Names of the functions and classes that a module calls."""
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {func.id for func in called if isinstance(func, ast.Name)}


def test_three_names_are_assigned_one_by_one() -> None:
    """Or search, diff and blame lose them; swaps are excepted."""
    found = [
        f"{name}:{node.lineno}: {ast.unparse(node)}"
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and assigns_several(node.targets[0], node.value)
    ]
    assert not found


def assigns_several(target: ast.expr, value: ast.expr) -> bool:
    """Whether three values or more, written side by side, go to as many names, other than in a swap."""
    if not (isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)) or len(target.elts) < 3:
        return False
    is_swap = {*map(ast.unparse, target.elts)} == {*map(ast.unparse, value.elts)}
    return len(target.elts) == len(value.elts) and not is_swap


@pytest.mark.parametrize(("statement", "several"), [("a, b, c = 1, 2, d", True), ("a, b, c = c, a, b", False)])
def test_assignments_of_several_names_are_told_from_swaps(statement: str, several: bool) -> None:
    node = ast.parse(statement).body[0]
    assert isinstance(node, ast.Assign)
    assert assigns_several(node.targets[0], node.value) is several


def test_every_option_says_what_it_affects() -> None:
    assert {field.metadata["affects"] for field in dataclasses.fields(Config)} == {ANSWER, ROUNDING, SPEED, NOTHING}


def test_the_python_api_has_every_option() -> None:
    signature = inspect.signature(runner.predict)
    parameters = {name: p for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}
    fields = {field.name: field for field in dataclasses.fields(Config)}
    assert set(parameters) == set(fields)
    described = inspect.getdoc(runner.predict) or ""
    for name, field in fields.items():
        if name not in ("model", "data"):
            default = None if name in ("model_args", "data_args", "input") else field.default
            assert parameters[name].default == default, name
        words = " ".join(described.split())
        assert f"{name}: {field.metadata['help']}." in words, name


def test_a_wheel_has_all_files() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    folders = {ROOT / package.replace(".", "/"): patterns for package, patterns in data.items()}
    packaged = {path for folder, patterns in folders.items() for pattern in patterns for path in folder.glob(pattern)}
    files = {path for path in (ROOT / "runner").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert len(files) > 20
    assert files == packaged


def test_a_mistyped_option_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    from runner.cli.main import main

    with pytest.raises(runner.UsageError, match="unknown option 'bach_size'; did you mean 'batch_size'"):
        runner.predict(model="a:b", data="d.npy", bach_size=3)
    assert main(["predict", "--bach-size", "3"]) == 64
    assert "unrecognized arguments: --bach-size 3; did you mean --batch-size?" in capsys.readouterr().err


def test_files_that_are_ordered_by_their_durations_exist() -> None:
    durations = json.loads((ROOT / "tests/durations.json").read_text())
    assert [name for name in durations if not (ROOT / "tests" / name).exists()] == []


@pytest.mark.parametrize("words", [["--quantize", "int8"], ["--metrics-port=9400"], ["--canary"]])
@pytest.mark.parametrize("command", ["predict", "plan", "doctor", "inspect"])
def test_a_removed_option_is_answered_with_what_to_do(
    command: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from runner.cli.main import main

    option = words[0].partition("=")[0]
    said = {
        "--quantize": "Quantize the module in the factory, give a quantized Hugging Face folder, or --dtype bfloat16",
        "--metrics-port": "give --metrics PORT",
        "--canary": "every job compares the canary at its end",
    }[option]
    assert main([command, *(["a:b"] if command == "inspect" else []), *words]) == 64
    assert re.search(f"error: {option} was removed: .*{said}", capsys.readouterr().err)
    with pytest.raises(runner.UsageError, match=f"{option} was removed: .*{said}"):
        runner.predict(model="a:b", data="d.npy", **{option[2:].replace("-", "_"): "int8"})


def test_nothing_is_both_an_option_and_removed() -> None:
    assert not {field.name for field in dataclasses.fields(Config)} & set(REMOVED)
