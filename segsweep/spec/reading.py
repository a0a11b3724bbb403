"""Reading a sweep file: overrides, and every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segsweep import yamlfile
from segsweep.errors import Problem, RunError, SpecError
from segsweep.spec import mistakes
from segsweep.spec.mistakes import Mistake
from segsweep.spec.shape import SweepSpec
from segsweep.yamlfile import Document, KeyPath, dotted

# stand in for mistaken keys, so that the meaning of the others can be checked all the same
PLACEHOLDERS: dict[str, Any] = {"name": "unnamed", "factors": {}}


def load(path: Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep file.

    Args:
        path: the YAML file.
        overrides: ``dotted.key=value`` strings, as given to ``--set``.

    Raises:
        SpecError: with every mistake.
    """
    spec, problems = parse(read(path, overrides))
    if problems or spec is None:
        raise SpecError(problems)
    return spec


def recorded(settings: Any, where: str, version: str) -> SweepSpec:
    """The settings that a launch has recorded.

    Args:
        settings: of a ledger, every default filled in.
        where: the ledger, for messages.
        version: of the segsweep that recorded them.

    Raises:
        RunError: this version does not have a key or a value, each by name.
    """
    spec, wrong = _validate(settings if isinstance(settings, Mapping) else {})
    if spec is not None:
        return spec
    hint = f"segsweep {version} recorded them: read the run with that version"
    raise RunError(
        [
            Problem(
                f"this segsweep cannot read a recorded setting: {what}", where, dotted(path), hint
            )
            for path, what, _ in wrong
        ]
    )


def read(path: Path, overrides: Sequence[str] = ()) -> Document:
    """The raw document with ``--set`` applied."""
    document = yamlfile.read(path)
    override(document, overrides)
    return document


def override(document: Document, overrides: Sequence[str]) -> None:
    """Apply ``--set`` to a document.

    Raises:
        SpecError: one is not ``key=value``.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            hint = "write --set dotted.key=value, such as --set train.epochs=5"
            raise SpecError(Problem(f"{text!r} is not key=value", "--set", hint=hint))
        _override(document, key.strip(), yamlfile.scalar(value, key.strip()))


def _override(document: Document, key: str, value: Any) -> None:
    node, rest = document.data, key.split(".")
    path: KeyPath = ()
    while rest:
        # a key may itself hold dots (parameters: train.lr), so the longest existing one wins
        for size in range(len(rest), 0, -1):
            head = ".".join(rest[:size])
            if head in node:
                break
        else:
            head, size = (key, len(rest)) if path == ("parameters",) else (rest[0], 1)
            head = ".".join(rest) if path == ("parameters",) else head
        path, rest = (*path, head), rest[size:]
        if not rest:
            node[head] = value
            document.overridden.add(path)
        else:
            if not isinstance(node.get(head), dict):
                node[head] = {}
                document.overridden.add(path)
            node = node[head]


def parse(document: Document) -> tuple[SweepSpec | None, list[Problem]]:
    """The spec, as far as it can be understood, and every mistake of shape.

    Where there are mistakes, the spec returned is the file without the mistaken keys, so that
    the meaning of the rest can still be checked; None where too little is left.
    """
    refused = list(mistakes.refused(document.data))
    problems = document.problems + [_problem(document, *mistake) for mistake in refused]
    data = _without(document.data, [path for path, _, _ in refused])
    spec, bad = _validate(data)
    told = {(problem.where, problem.key) for problem in problems}
    new = [_problem(document, *mistake) for mistake in bad]
    problems += [problem for problem in new if (problem.where, problem.key) not in told]
    broken = {path[:2] for path, _, _ in bad}  # parameters of which only a part is left
    for _ in range(len(SweepSpec.model_fields)):
        if spec is not None:
            together = [m for m in mistakes.together(spec) if m[0][:2] not in broken]
            problems += [_problem(document, *mistake) for mistake in together]
            break
        data = {**PLACEHOLDERS, **_without(data, [path for path, _, _ in bad])}
        spec, bad = _validate(data)
        bad = [(path[:1], what, hint) for path, what, hint in bad]
    return spec, problems


def _validate(data: Mapping[str, Any]) -> tuple[SweepSpec | None, list[Mistake]]:
    try:
        return SweepSpec.model_validate(data), []
    except ValidationError as error:
        found: dict[KeyPath, Mistake] = {}
        for item in error.errors(include_url=False):
            path = _real_path(data, item["loc"])
            if path in found and item["type"] == "literal_error":  # a number, or a word
                _, what, hint = found[path]
                found[path] = path, what, hint or f"or write {item['ctx']['expected']}"
            found.setdefault(path, (path, *mistakes.explain(dict(item), path)))
        return None, list(found.values())


def _real_path(data: Any, loc: tuple[str | int, ...]) -> KeyPath:
    """Pydantic's place without the names of union members that it puts in."""
    path: list[str | int] = []
    node = data
    for part in loc:
        if isinstance(node, Mapping):
            path.append(part)
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int):
            path.append(part)
            node = node[part] if part < len(node) else None
    return tuple(path)


def _problem(document: Document, path: KeyPath, what: str, hint: str) -> Problem:
    return Problem(what, document.where(path), dotted(path), hint)


def _without(data: Any, paths: Sequence[KeyPath]) -> Any:
    """A copy of ``data`` without the values at ``paths``."""
    if () in paths:
        return {}
    if isinstance(data, Mapping):
        return {
            key: _without(value, [path[1:] for path in paths if path[:1] == (key,)])
            for key, value in data.items()
            if (key,) not in paths
        }
    if isinstance(data, list):
        return [
            _without(value, [path[1:] for path in paths if path[:1] == (i,)])
            for i, value in enumerate(data)
            if (i,) not in paths
        ]
    return data
