"""YAML 1.2 with lines, and nothing that could do harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from segsweep import yamlfile
from segsweep.errors import SpecError


def test_yaml_1_2_scalars() -> None:
    text = "a: 1e-4\nb: 0x10\nc: no\nd: yes\ne: true\nf: null\ng: '1'\nh: 1.5\n"
    data = yamlfile.parse(text, "f").data
    assert data == {
        "a": 1e-4, "b": 16, "c": "no", "d": "yes", "e": True, "f": None, "g": "1", "h": 1.5,
    }  # fmt: skip
    assert isinstance(data["a"], float)


def test_every_key_has_its_line() -> None:
    document = yamlfile.parse("a: 1\n\nb:\n  c: [1,\n    2]\n", "f.yaml")
    assert document.where(("b", "c")) == "f.yaml:4"
    assert document.where(("b", "c", 1)) == "f.yaml:5"
    assert document.where(("b", "missing")) == "f.yaml:3"


def test_all_duplicate_keys_are_named_with_the_first_one() -> None:
    document = yamlfile.parse("a: 1\na: 2\nb: {c: 1, c: 2}\n", "f.yaml")
    assert [(p.where, p.key) for p in document.problems] == [("f.yaml:2", "a"), ("f.yaml:3", "b.c")]
    assert "line 1" in document.problems[0].what


@pytest.mark.parametrize("tag", ["!!python/object:os.system x", "!!python/tuple [1]", "!x {a: 1}"])
def test_tags_are_refused(tag: str) -> None:
    document = yamlfile.parse(f"a: {tag}\n", "f.yaml")
    assert any("not allowed" in problem.what for problem in document.problems)


@pytest.mark.parametrize("key", ["!!python/name:os.system x", "? !!python/tuple [a]\n", "[a, b]"])
def test_keys_are_plain(key: str) -> None:
    document = yamlfile.parse(f"a: 1\n{key}: 1\n", "f.yaml")
    assert [problem.where for problem in document.problems] == ["f.yaml:2"]
    assert document.data == {"a": 1}


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 8)]
    with pytest.raises(SpecError, match="aliases"):
        yamlfile.parse("\n".join(lines), "f.yaml")


def test_a_whole_number_that_no_machine_has_is_refused_with_its_line() -> None:
    document = yamlfile.parse(f"a: 1\nb: [{2**63 - 1}, -{'9' * 400}]", "file")
    (problem,) = document.problems
    assert (problem.where, problem.key) == ("file:2", "b[1]")
    assert "64 bits" in problem.what


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_text("".join(f"key{i:07d}: {i}\n" for i in range(500_000)))
    assert path.stat().st_size > 8_000_000
    with pytest.raises(SpecError, match="1 MB"):
        yamlfile.read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "not valid YAML"), ("- 1", "not a mapping"), ("", "is empty")],
)
def test_what_is_no_mapping_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        yamlfile.parse(text, "f.yaml")


def test_a_file_that_is_not_there_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=str(tmp_path)):
        yamlfile.read(tmp_path / "none.yaml")


def test_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_ROOT", "/data")
    monkeypatch.delenv("NO_SUCH", raising=False)
    text = "a: ${SOME_ROOT}/x\nb: ${NO_SUCH:-data}/y\nc: ${NO_SUCH}\n"
    document = yamlfile.parse(text, "f.yaml")
    assert document.data["a"] == "/data/x"
    assert document.data["b"] == "data/y"
    assert [problem.where for problem in document.problems] == ["f.yaml:3"]


def test_dump_and_read_again() -> None:
    data = {"a": 1e-4, "b": {"c": None, "d": [1, True, "1e-4", "no"]}, "e": "x: y"}
    assert yamlfile.parse(yamlfile.dump(data), "f").data == data


def test_a_foreign_file_is_given_nothing_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_ROOT", "/data")
    path = tmp_path / "f.yaml"
    path.write_text('a: ${SOME_ROOT}\nb: ["${NO_SUCH}"]\n')
    document = yamlfile.read(path, interpolate=False)
    assert document.data == {"a": "${SOME_ROOT}", "b": ["${NO_SUCH}"]}
    assert document.problems == []
