"""Starting Ray or joining a cluster: what Ray is told, and what its errors become."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import ray

from segsweep.errors import RunError
from segsweep.runners.ray import joining

MISMATCH = "Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.9.1\n"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What ``ray.init`` was given, and the environment at that time."""
    given: dict[str, Any] = {}

    def init(**options: Any) -> None:
        given.update(options, environment=dict(os.environ))

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(joining, "_reach", lambda address: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return given


def refuse(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def init(**_: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)


def test_secrets_stay_with_the_driver(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in joining.SECRETS:
        monkeypatch.setenv(name, "canary")
    joining.join(joining.LOCAL)
    assert "canary" not in asked["environment"].values()
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == "canary"  # noqa: S105 - no secret


@pytest.mark.parametrize("address", ["10.0.0.1:6379", joining.LOCAL])
def test_a_token_is_shown_to_an_address_although_ray_was_imported_before(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str
) -> None:
    read: list[str] = []

    class Config:
        @staticmethod
        def initialize(text: str) -> None:
            read.append(os.environ["RAY_AUTH_MODE"])

    monkeypatch.setattr("ray._raylet.Config", Config)
    monkeypatch.setenv("RAY_AUTH_MODE", "")  # so that it is put back
    monkeypatch.delenv("RAY_AUTH_MODE")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("a" * 64)
    joining.join(address)
    here = address == joining.LOCAL  # Ray minds its own
    assert read == ([] if here else ["token"])
    assert ("RAY_AUTH_MODE" in asked["environment"]) != here


def test_other_versions_are_named_in_whole(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, RuntimeError(MISMATCH))
    with pytest.raises(RunError) as caught:
        joining.join("10.0.0.1:6379")
    (problem,) = caught.value.problems
    assert "Ray: 2.9.0 Python: 3.9.1" in problem.what
    assert "install here the versions" in problem.hint
    assert "leave --address out" in problem.hint
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(RunError, match="unset RAY_ADDRESS"):
        joining.join("10.0.0.1:6379")


def test_ray_that_does_not_start_here_is_no_cluster(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, RuntimeError("Failed to start GCS.\n  Last 0 lines"))
    with pytest.raises(RunError, match="Ray cannot be started here: Failed to start GCS") as caught:
        joining.join(joining.LOCAL)
    assert "--runner inline" in str(caught.value)
