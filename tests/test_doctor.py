"""What a machine lacks is named, with the way to get it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from segsweep import doctor
from segsweep.cli import app
from segsweep.doctor import Finding
from tests.helpers import tiny, write_sweep


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in found}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", "/var")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_a_sound_machine_lacks_nothing_that_a_sweep_needs(tmp_path: Path) -> None:
    found = doctor.examine(write_sweep(tmp_path, tiny()))
    assert [f for f in found if f.state == "missing"] == []
    assert all(finding.hint for finding in found if finding.state != "ok")
    assert by_name(found)["sweep file"].state == "ok"


def test_missing_data_and_a_broken_sweep_file_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGSWEEP_DATA", str(tmp_path / "nowhere"))
    data = by_name(doctor.examine())["data"]
    assert data.state == "missing"
    assert "nowhere" in data.found
    path = write_sweep(tmp_path, tiny(dataset__name="ph2", dataset__root=str(tmp_path / "gone")))
    assert by_name(doctor.examine(path))["data"].state == "missing"
    broken = write_sweep(tmp_path, tiny(train__epohcs=3))
    assert "epohcs" in by_name(doctor.examine(broken))["sweep file"].found


def test_a_login_is_found_in_either_place_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert by_name(doctor.examine())["W&B login"].state == "note"
    (tmp_path / "netrc").write_text("machine api.wandb.ai\n login user\n password s3cret\n")
    found = by_name(doctor.examine())["W&B login"]
    assert found.state == "ok"
    assert "s3cret" not in found.found
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    found = by_name(doctor.examine())["W&B login"]
    assert found.state == "ok"
    assert "s3cret" not in found.found


def test_a_driver_that_torch_does_not_see_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert by_name(doctor.examine())["GPU"].state == "note"
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 570.00\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = by_name(doctor.examine())["GPU"]
    assert "570.00" in found.found
    assert "torch build" in found.hint


def test_a_path_too_long_for_ray_and_a_package_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/var/" + "x" * 60)
    assert by_name(doctor.examine())["Ray"].state == "missing"
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "optuna" else "1")
    found = by_name(doctor.examine())["optuna"]
    assert (found.state, found.hint) == ("missing", "pip install segsweep")


def test_the_command_exits_2_where_something_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = CliRunner().invoke(app, ["doctor", str(write_sweep(tmp_path, tiny()))])
    assert good.exit_code == 0, good.output
    monkeypatch.setenv("SEGSWEEP_DATA", str(tmp_path / "nowhere"))
    bad = CliRunner().invoke(app, ["doctor", "--json"])
    assert bad.exit_code == 2
    states = {finding["what"]: finding["state"] for finding in json.loads(bad.stdout)}
    assert states["data"] == "missing"


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in missing else "1")


EXTRAS = ["mlflow", "wandb-workspaces", "transformers", "onnx", "onnxscript", "onnxruntime"]


def test_what_a_sweep_does_not_need_is_a_note_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "mlflow-skinny", *EXTRAS)
    for found in (doctor.examine(), doctor.examine(write_sweep(tmp_path, tiny()))):
        for name in EXTRAS:
            finding = by_name(found)[name]
            assert finding.state == "note"
            assert finding.hint.startswith('pip install "segsweep[')
    without(monkeypatch, "mlflow")  # mlflow-skinny does
    assert by_name(doctor.examine())["mlflow"].state == "ok"


@pytest.mark.parametrize(
    ("changes", "package"),
    [
        ({"factors__model": ["segnet", "eomt"]}, "transformers"),
        ({"factors__model": [{"name": "eomt", "hidden_size": 16}]}, "transformers"),
        ({"tracking": ["mlflow"]}, "mlflow"),
        ({"wandb__mode": "offline"}, "wandb"),
    ],
)
def test_packages_that_a_sweep_needs_are_missing(
    changes: dict[str, Any], package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "wandb", "mlflow-skinny", *EXTRAS)
    found = doctor.examine(write_sweep(tmp_path, tiny(**changes)))
    assert [finding.what for finding in found if finding.state == "missing"] == [package]


def test_files_that_a_sweep_names_are_looked_for(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    scored = {"road": {"name": "smiyc", "root": gone, "anomaly": ["obstacle"]}}
    model = {"name": "segnet", "weights": gone}
    path = write_sweep(tmp_path, tiny(factors__model=[model], calibration__datasets=scored))
    missing = {f.what: f.found for f in doctor.examine(path) if f.state == "missing"}
    assert missing == {
        "weights": f"{gone} is no file",
        "data of calibration.datasets.road": f"{gone} does not exist",
    }
    (tmp_path / "gone").write_bytes(b"")
    assert not [f for f in doctor.examine(path) if f.state == "missing"]


def test_a_sweep_that_streams_needs_a_login(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny(wandb__mode="online"))
    assert by_name(doctor.examine(path))["W&B login"].state == "missing"
    path = write_sweep(tmp_path, tiny(wandb__mode="online", tracking=[]))
    assert by_name(doctor.examine(path))["W&B login"].state == "note"
