"""Imports go strictly downward, and the package is what docs/architecture.md says."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import regard

ROOT = Path(regard.__file__).parent
FLOORS = [
    {"errors", "files", "memory", "padded", "pieces", "trees", "settings", "randomness", "metrics"},
    {"attention", "data", "decoding", "inspection"},
    {"layers"},
    {"models"},
    {"tasks"},
    {"evaluation", "export"},
    {"training"},
    {"recipe"},
    {"recipes", "run_folder", "proposals"},
    {"runner"},
    {"timing"},
    {"predictor", "planning"},
    {"reporting", "machine"},
    {"api"},
    {"cli"},
    {"__init__", "__main__"},
]
FLOOR_OF = {part: number for number, floor in enumerate(FLOORS) for part in floor}
WITHIN_GROUND = {("settings", "errors"), ("randomness", "padded"), ("metrics", "padded")}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """The parts of regard that a file imports anywhere in it, functions included; type-checking imports too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path.name}: relative imports hide the direction"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("regard."):
                second = name.split(".")[1]
                yield second if second in FLOOR_OF else "__init__"


def test_every_part_has_a_floor() -> None:
    assert {part_of(path) for path in ROOT.rglob("*.py")} == set(FLOOR_OF)


def test_imports_go_downward() -> None:
    upward = [
        f"{path.relative_to(ROOT)} imports {other}"
        for path in ROOT.rglob("*.py")
        for other in imports_of(path)
        if not allowed(part_of(path), other)
    ]
    assert not upward


def allowed(part: str, other: str) -> bool:
    if part == other or FLOOR_OF[other] < FLOOR_OF[part]:
        return True
    return (part, other) in WITHIN_GROUND or (part == "cli" and other == "__init__")


def test_the_test_sees_an_arrow_up() -> None:
    assert not allowed("attention", "models")
    assert not allowed("decoding", "data")
    assert not allowed("training", "recipe")


FORBIDDEN = {"eval", "exec", "__import__", "torch.load", "yaml.full_load", "yaml.unsafe_load", "yaml.unsafe_load_all"}


def test_nothing_is_unpickled_or_evaluated() -> None:
    trees = {path.name: ast.parse(path.read_text("utf-8")) for path in ROOT.rglob("*.py")}
    calls = {(name, ast.unparse(node.func)) for name, tree in trees.items() for node in ast.walk(tree) if is_call(node)}
    assert not {(name, call) for name, call in calls if call in FORBIDDEN}
    imported = {(name, alias.name) for name, tree in trees.items() for node in ast.walk(tree) for alias in names(node)}
    assert not {(name, module) for name, module in imported if module in ("pickle", "marshal", "shelve", "dill")}


def is_call(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call)


def names(node: ast.AST) -> list[ast.alias]:
    return node.names if isinstance(node, ast.Import) else []


def test_files_and_functions_stay_short() -> None:
    lengths = [
        (node.end_lineno - node.lineno + 1, f"{path.name}:{node.name}")
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno
    ]
    assert sorted(lengths)[len(lengths) // 2][0] <= 12
    assert max(lengths)[0] <= 60, max(lengths)
    assert max(len(path.read_text("utf-8").splitlines()) for path in ROOT.rglob("*.py")) <= 400
