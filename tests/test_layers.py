"""Who may import whom: the levels of the package, walked from its source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "segsweep"

# a module imports from lower levels, or from its own
LEVELS: dict[str, int] = {
    "errors": 0, "registry": 0, "bootstrap": 0, "__init__": 9, "__main__": 8,
    "yamlfile": 1, "space": 1, "spec": 1, "identity": 1, "events": 1, "ledger": 1, "state": 1,
    "results": 1,
    "rundir": 1, "plain": 1, "interrupt": 1, "checksum": 1, "fulldisk": 1,
    "versions": 1, "pixelcounts": 1, "batches": 1, "next_command": 1, "printing": 1, "noise": 1,
    "data": 2, "models": 2, "losses": 2, "metrics": 2, "optim": 2, "checkpoint": 2,
    "calibration": 2,
    "engine": 3, "progress": 3,
    "trial": 4,
    "cells": 5, "check": 5, "masks": 5, "opening": 5, "importing": 5,
    "pairs": 5, "plan": 5, "schema": 5, "search": 5, "tracking": 5, "workload": 5,
    "runners": 6,
    "calibrate": 7, "champions": 7, "closing": 7, "compare": 7, "doctor": 7, "continuation": 7,
    "display": 7, "launching": 7,
    "export": 7, "report": 7, "status": 7, "stopping": 7,
    "api": 8, "cli": 8,
}  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path, *, lazy: bool = True) -> set[str]:
    """Full names of everything that a file imports; ``lazy`` includes those inside functions."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if lazy else iter(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the full name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules(path: Path) -> set[str]:
    return {
        name.split(".")[1]
        for name in imports(path)
        if name.startswith("segsweep.") and name.split(".")[1] in LEVELS
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_from_no_higher_level(path: Path) -> None:
    own = LEVELS[name_of(path)]
    higher = {module for module in modules(path) if LEVELS[module] > own}
    assert not higher


def test_modules_of_one_level_import_each_other_without_a_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        name = name_of(path)
        same = {m for m in modules(path) if LEVELS[m] == LEVELS[name] and m != name}
        graph.setdefault(name, set()).update(same)

    def reach(name: str, seen: frozenset[str]) -> None:
        assert name not in seen, f"cycle through {name}"
        for other in graph[name]:
            reach(other, seen | {name})

    for name in graph:
        reach(name, frozenset())


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("ray", "runners/ray"),
        ("wandb", "tracking"),
        ("typer", "cli"),
        ("sklearn", "data"),
        ("plotly", "report"),
        ("jinja2", "report"),
    ],
)
def test_a_library_is_imported_in_one_place(library: str, allowed: str) -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users
    assert all(user.startswith(allowed) for user in users)


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("segsweep.compare.analysis", ("torch", "ray", "statsmodels", "pandas")),
        ("segsweep.compare", ("torch", "ray", "scipy")),
        ("segsweep.status", ("torch", "ray", "scipy", "pandas")),
        ("segsweep.report", ("torch", "ray", "plotly")),
        ("segsweep.report.page", ("torch", "ray", "wandb", "optuna")),
        ("segsweep.search", ("torch", "ray")),
        ("segsweep.results", ("torch", "ray")),
        ("segsweep.rundir", ("torch", "ray")),
        ("segsweep.runners.replay", ("torch", "ray", "wandb")),
        ("segsweep.cli", ("torch", "ray", "wandb", "optuna", "scipy", "pyarrow", "pandas")),
        ("segsweep.trial", ("ray", "wandb")),
    ],
)
def test_importing_it_does_not_load(module: str, forbidden: tuple[str, ...]) -> None:
    import subprocess
    import sys

    code = f"import sys, {module}; print([m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_file_uses_pickle_for_data() -> None:
    for path in FILES:
        used = {name.split(".")[0] for name in imports(path)}
        if path.name == "weightfile.py":  # names the error of a file that is refused
            used.discard("pickle")
        assert not used & {"cloudpickle", "dill", "joblib", "pickle"}, path
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if _loads(node)):
            assert isinstance(call, ast.Call)
            assert any(
                k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords
            ), path


def _loads(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
