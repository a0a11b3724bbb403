"""What the README says is there, is there; and nothing is missing from its tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from segsweep import losses, models, optim, space, spec, yamlfile
from segsweep.data import augment, sources
from segsweep.metrics.scores import BINARY, MULTICLASS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_module_has_a_caption_in_the_tree() -> None:
    tree = README.split("## What is where")[1].split("```")[1]
    for path in (ROOT / "segsweep").iterdir():
        if path.name.startswith(("__", "py.typed")):
            continue
        name = path.name if path.is_file() else f"{path.name}/"
        assert name in tree, name
    for name in re.findall(r"^  ?(\w+(?:/|\.py))", tree, flags=re.MULTILINE):
        assert (ROOT / name).exists() or (ROOT / "segsweep" / name).exists(), name


def test_links_and_the_picture_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_the_two_commands_stand_alone_in_the_opening() -> None:
    opening = README.split("\n## ")[0]
    blocks = [block.strip() for block in re.findall(r"```\n(.*?)```", opening, flags=re.DOTALL)]
    assert blocks == [
        "pip install -e . && segsweep launch sweeps/quickstart.yaml",
        'pip install -e ".[test]" && pytest',
    ]
    assert blocks[1] in (ROOT / ".ci/run").read_text()


def test_the_sweep_file_shown_is_valid() -> None:
    text = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)[0]
    _, problems = spec.parse(yamlfile.parse(text, "README"))
    assert problems == []


@pytest.mark.parametrize(
    "names",
    [
        list(models.MODELS), list(losses.LOSSES), list(sources.SOURCES), list(augment.PRESETS),
        list(optim.OPTIMIZERS), list(optim.SCHEDULES), list(space.DISTRIBUTIONS),
        list(BINARY), list(MULTICLASS),
    ],
)  # fmt: skip
def test_every_name_of_a_registry_is_told(names: list[str]) -> None:
    section = README.split("## Names")[1].split("\n## ")[0]
    for name in names:
        assert re.search(rf"\b{name}\b", section), name


def test_constraints_hold_names_and_versions_alone() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+", line), line
