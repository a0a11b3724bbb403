"""Reading a W&B file: its ``<<: *base`` merge keys are put in place, as W&B's own reader does.

A sweep file of ours has no merge keys, so `yamlfile` refuses them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from segsweep import yamlfile
from segsweep.errors import Problem, SpecError
from segsweep.yamlfile import Document, KeyPath

MERGE = "tag:yaml.org,2002:merge"
Pairs = list[tuple[Node, Node]]


def read(path: Path) -> Document:
    """W&B's file, as ``yamlfile.read`` gives it without the environment, with its merges.

    Raises:
        SpecError: as there; or a merge key names no mapping.
    """
    plain = yamlfile.read(path, interpolate=False)
    own = [problem for problem in plain.problems if MERGE not in problem.what]
    if len(own) == len(plain.problems):
        return plain
    yaml, text = YAML(typ="safe", pure=True), io.StringIO()
    root = yaml.compose(io.StringIO(path.read_text(encoding="utf-8")))
    _put(root, str(path), set())
    yaml.serialize(root, text)
    merged = yamlfile.parse(text.getvalue(), str(path), interpolate=False)
    # the lines of that text are not those of the user's file, which the nodes still have
    merged.lines = dict(_lines(root, (), root.start_mark.line + 1))
    at = {yamlfile.dotted(key): merged.where(key) for key in merged.lines}
    told = {problem.key for problem in own}
    merged.problems = own + [
        replace(problem, where=at.get(problem.key, str(path)))
        for problem in merged.problems
        if problem.key not in told
    ]
    return merged


def _put(node: Node, name: str, done: set[int]) -> None:
    """Replace every merge key at and below ``node`` by what it names."""
    if id(node) in done or not isinstance(node, (MappingNode, SequenceNode)):
        return
    done.add(id(node))
    for child in node.value:
        for part in child if isinstance(child, tuple) else (child,):
            _put(part, name, done)
    if isinstance(node, MappingNode):
        node.value = _merged(node, name)


def _merged(node: MappingNode, name: str) -> Pairs:
    """The pairs of a mapping: its own come after those it merges, and win."""
    own: Pairs = [pair for pair in node.value if pair[0].tag != MERGE]
    taken = {str(key.value) for key, _ in own}
    merged: Pairs = []
    for at, value in node.value:
        bases = value.value if isinstance(value, SequenceNode) else [value]
        for base in bases if at.tag == MERGE else ():
            if not isinstance(base, MappingNode):
                where = f"{name}:{at.start_mark.line + 1}"
                raise SpecError(Problem("<< merges what is no mapping", where))
            for key, inner in base.value:
                if key.tag != MERGE and str(key.value) not in taken:
                    taken.add(str(key.value))
                    merged.append((copy(key), inner))  # one node twice is written as an alias
    return merged + own


def _lines(node: Node, path: KeyPath, line: int) -> Iterator[tuple[KeyPath, int]]:
    """The line of every key path, as in `Document`."""
    yield path, line
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*path, str(key.value)), key.start_mark.line + 1)
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines(item, (*path, index), item.start_mark.line + 1)
