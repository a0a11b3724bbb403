"""Reading YAML 1.2 into plain values, with the line of every key; and writing it back.

Nothing but scalars, lists and mappings can come out: tags are refused, aliases cannot blow up,
and duplicate keys are mistakes, all of which are reported together.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from segsweep.errors import Problem, SpecError

MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
LARGEST = 2**63 - 1
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")}
VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")

KeyPath = tuple[str | int, ...]


@dataclass
class Document:
    """A YAML file as plain values.

    Attributes:
        name: the file's name as the user gave it.
        data: the root mapping.
        lines: line (from 1) of every key path.
        problems: what was wrong with the file itself.
    """

    name: str
    data: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    overridden: set[KeyPath] = field(default_factory=set)

    def where(self, path: KeyPath) -> str:
        """``file:line`` of the nearest key that stands in the file, or ``--set``."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.overridden:
                return "--set"
            if path[:end] in self.lines:
                return f"{self.name}:{self.lines[path[:end]]}"
        return self.name


def read(path: Path, *, interpolate: bool = True) -> Document:
    """Read one YAML file whose root is a mapping.

    Args:
        path: the file.
        interpolate: put the environment's ``NAME`` in the place of ``${NAME}``; a file that was
            not written for segsweep must not be given it.

    Raises:
        SpecError: no such file, too large, not UTF-8, or not YAML.
    """
    name = str(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        hint = f"looked in {path.resolve().parent}"
        raise SpecError(Problem(f"cannot be read: {reason}", name, hint=hint)) from error
    if len(raw) > MAX_BYTES:
        raise SpecError(Problem("is larger than 1 MB, which no sweep file is", name))
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(Problem(f"is not UTF-8 text: {error.reason}", name)) from error
    return parse(text, name, interpolate=interpolate)


def parse(text: str, name: str, *, interpolate: bool = True) -> Document:
    """As ``read``, from text."""
    try:
        root = YAML(typ="safe", pure=True).compose(io.StringIO(text))
    except MarkedYAMLError as error:
        line = f"{name}:{error.problem_mark.line + 1}" if error.problem_mark else name
        hint = "is a line indented otherwise than the one above, or a bracket left open?"
        raise SpecError(Problem(f"is not valid YAML: {error.problem}", line, "", hint)) from error
    except (YAMLError, RecursionError) as error:
        raise SpecError(Problem(f"is not valid YAML: {error}", name)) from error
    if not isinstance(root, MappingNode):
        what = "is not a mapping of keys to values" if root is not None else "is empty"
        raise SpecError(Problem(what, name, hint="a sweep file has lines such as `name: my_sweep`"))
    document = Document(name, {})
    try:
        document.data = _Walk(document, interpolate=interpolate).value(root, ())
    except RecursionError as error:
        raise SpecError(Problem("is nested too deeply", name)) from error
    return document


def scalar(text: str, key: str = "", where: str = "--set") -> Any:
    """The YAML value of one command-line argument, such as ``1e-4`` or ``[a, b]``.

    Args:
        text: the argument.
        key: what it is the value of, for messages.
        where: the option.

    Raises:
        SpecError: not YAML.
    """
    try:
        document = parse(f"value: {text}", where)
        problems: Sequence[Problem] = document.problems
    except SpecError as error:
        problems = error.problems
    if problems:
        raise SpecError(
            Problem(one.what, where, key + one.key.removeprefix("value"), one.hint)
            for one in problems
        )
    return document.data["value"]


def dump(data: Mapping[str, Any]) -> str:
    """YAML text of plain values, keys in their order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    yaml.dump(dict(data), stream)
    return stream.getvalue()


class _Walk:
    """Turns composed nodes into plain values and notes each line."""

    def __init__(self, document: Document, *, interpolate: bool) -> None:
        self.document, self.interpolates = document, interpolate
        self.count = 0
        self.constructor = YAML(typ="safe", pure=True).constructor

    def value(self, node: Node, path: KeyPath) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            what = f"holds more than {MAX_VALUES:,} values (are aliases multiplying?)"
            raise SpecError(Problem(what, self.document.name))
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            return self.mapping(node, path)
        if isinstance(node, SequenceNode):
            if not str(node.tag).endswith(":seq"):
                self.problem(path, f"the tag {node.tag} is not allowed", "write a plain list")
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)  # noqa: S101 - YAML has no fourth kind of node
        if str(node.tag) not in PLAIN_TAGS:
            self.problem(path, f"the tag {node.tag} is not allowed", "write a plain value")
            return None
        try:
            value = self.constructor.construct_object(node)
        except (ValueError, KeyError, OverflowError) as error:
            self.problem(path, f"cannot be read as a value: {error}", "write a plain value")
            return None
        if isinstance(value, int) and abs(value) > LARGEST:
            self.problem(path, "is larger than a whole number of 64 bits", "write a smaller one")
            return None
        if isinstance(value, str) and self.interpolates:
            return self.interpolate(value, path)
        return value

    def mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        if not str(node.tag).endswith(":map"):
            self.problem(path, f"the tag {node.tag} is not allowed", "write a plain mapping")
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode) or str(key_node.tag) not in PLAIN_TAGS:
                self.problem(path, f"a key with the tag {key_node.tag} is not allowed", "", line)
                continue
            if key in result:
                first = self.document.lines[(*path, key)]
                self.problem(
                    (*path, key), f"this key stands twice, first in line {first}", "keep one", line
                )
                continue
            self.document.lines[(*path, key)] = line
            result[key] = self.value(value_node, (*path, key))
        return result

    def interpolate(self, text: str, path: KeyPath) -> str:
        def replace(match: re.Match[str]) -> str:
            value = os.environ.get(match["name"]) or match["default"]
            if value is None:
                hint = f"set {match['name']}, or write ${{{match['name']}:-default}}"
                self.problem(path, f"the environment has no {match['name']}", hint)
                return ""
            return value

        return VARIABLE.sub(replace, text)

    def problem(self, path: KeyPath, what: str, hint: str, line: int | None = None) -> None:
        where = f"{self.document.name}:{line}" if line else self.document.where(path)
        self.document.problems.append(Problem(what, where, dotted(path), hint))


def dotted(path: KeyPath) -> str:
    """``('factors', 'model', 2)`` as ``factors.model[2]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
