"""What a machine lacks is named, with the way to get it."""

from __future__ import annotations

import json
import socket
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from segsweep import doctor
from segsweep.cli import app, show
from segsweep.doctor import Finding, libraries, packages, reach
from segsweep.doctor.libraries import Report
from segsweep.tracking import wandb_login
from tests.helpers import tiny, write_sweep

KEY = "s3cret" * 8
real_look = libraries.look


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in found}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_TMPDIR", "SEGSWEEP_DATA", "HF_HUB_OFFLINE", "MLFLOW_TRACKING_URI", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", "/var")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    monkeypatch.chdir(tmp_path)
    report(monkeypatch)


def report(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """What the process that imports torch would say: starting it takes seconds."""
    changed = Report(**{"version": "2.15.0", "cuda": "13.2", **changes})
    monkeypatch.setattr(libraries, "look", lambda wanted: changed)


def versions(monkeypatch: pytest.MonkeyPatch, **others: str) -> None:
    """Other versions of packages; ``_`` stands for a dash."""
    true = metadata.version
    own = {name.replace("_", "-"): version for name, version in others.items()}
    monkeypatch.setattr(metadata, "version", lambda name: own.get(name) or true(name))


@pytest.fixture
def listening() -> Iterator[int]:
    """A port at which somebody answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture
def silent() -> int:
    """A port at which nobody does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


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


def test_a_driver_that_torch_does_not_see_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    without(monkeypatch, "optuna")
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
    monkeypatch.setattr(packages, "_version", lambda name: None if name in missing else "99")


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
        "data of calibration.datasets.road": f"dataset.root: the dataset does not exist: {gone}",
    }
    (tmp_path / "gone").write_bytes(b"")
    assert by_name(doctor.examine(path))["weights"].state == "ok"


def test_a_sweep_that_streams_needs_a_login(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny(wandb__mode="online"))
    assert by_name(doctor.examine(path))["W&B login"].state == "missing"
    path = write_sweep(tmp_path, tiny(wandb__mode="online", tracking=[]))
    assert by_name(doctor.examine(path))["W&B login"].state == "note"


# versions


def test_a_version_that_is_not_required_is_missing_with_the_requirement(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    versions(monkeypatch, ray="2.9.0", torch="2.13.0", optuna="3.6.0", wandb="0.16.0", scipy="1.9")
    path = write_sweep(tmp_path, tiny(wandb__mode="offline"))
    missing = {f.what: f for f in doctor.examine(path) if f.state == "missing"}
    assert set(missing) == {"ray", "torch", "optuna", "wandb", "scipy"}
    assert missing["ray"].hint == 'pip install -U "ray[tune]>=2.56"'
    assert "2.9.0" in missing["ray"].found
    assert "!=2.13.*" in missing["torch"].hint
    assert by_name(doctor.examine())["wandb"].state == "note"  # nothing asks for it


@pytest.mark.parametrize("version", ["2.15.0+cpu", "2.16.0.dev20260101", "somebody's own"])
def test_builds_of_other_people_fit(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, torch=version)
    assert by_name(doctor.examine())["torch"].state == "ok"


def test_an_extra_that_is_too_old_is_missing_where_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    versions(monkeypatch, transformers="4.1.0")
    found = by_name(doctor.examine())["transformers"]
    assert (found.state, found.hint) == ("note", 'pip install -U "transformers>=5"')
    path = write_sweep(tmp_path, tiny(factors__model=["eomt"]))
    assert by_name(doctor.examine(path))["transformers"].state == "missing"


# libraries


def test_a_torchvision_of_another_torch_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torchvision").mkdir()
    text = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torchvision" / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(libraries, "look", real_look)
    found = by_name(doctor.examine())
    assert found["torch"].state == "ok"
    assert found["torchvision"].state == "missing"
    assert "torchvision::nms" in found["torchvision"].found
    assert "pip install -U torch torchvision" in found["torchvision"].hint


def test_torchvision_is_a_note_where_the_models_do_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report(monkeypatch, broken={"torchvision": "RuntimeError: nms"})
    assert by_name(doctor.examine())["torchvision"].state == "missing"
    path = write_sweep(tmp_path, tiny())
    assert by_name(doctor.examine(path))["torchvision"].state == "note"
    path = write_sweep(tmp_path, tiny(factors__model=["unet/resnet18"]))
    assert by_name(doctor.examine(path))["torchvision"].state == "missing"


def test_a_torch_that_ends_its_process_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("import os; os._exit(7)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(libraries, "look", real_look)
    found = by_name(doctor.examine())
    assert found["torch"].state == "missing"
    assert "exit status 7" in found["torch"].found
    assert "GPU" not in found


def test_a_sound_installation_and_weights_that_are_there_or_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for repository in ("smp-hub--resnet18.imagenet", "timm--resnest50d.in1k", "a--b"):
        _cache(tmp_path / "hub" / f"models--{repository}")
    there = [("encoder", "resnet18"), ("encoder", "tu-resnest50d"), ("eomt", "a/b")]
    gone = [("encoder", "mit_b0"), ("encoder", "tu-resnest101e"), ("eomt", "a/c")]
    found = real_look([*there, *gone, ("encoder", "nonsense")])
    assert found.version
    assert not found.broken
    assert list(found.weights.values()) == [True] * 3 + [False] * 3 + [None]


def _cache(folder: Path) -> None:
    """As the hub's client keeps a repository."""
    from segmentation_models_pytorch.encoders import encoders

    own = encoders["resnet18"]["pretrained_settings"]["imagenet"]["revision"]
    commit = own if "smp-hub" in folder.name else "f" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / "model.safetensors").write_bytes(b"")


def test_weights_are_there_or_to_be_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted: list[tuple[str, str]] = []
    answer = Report(version="2", weights={"encoder:resnet18": True, "encoder:resnet34": False})

    def look(given: list[tuple[str, str]]) -> Report:
        wanted.extend(given)
        return answer

    monkeypatch.setattr(libraries, "look", look)
    levels = [
        "unet/resnet18",
        "fpn/resnet34",
        {"name": "unet/resnet50", "encoder_weights": "none"},
        {"name": "unet/resnet101", "weights": "file"},
        {"name": "eomt", "pretrained": str(tmp_path)},
        {"name": "eomt", "pretrained": "none"},
    ]
    path = write_sweep(tmp_path, tiny(factors__model=levels))
    found = by_name(doctor.examine(path))
    assert wanted == [("encoder", "resnet18"), ("encoder", "resnet34")]
    assert found["weights of resnet18"].state == "ok"
    assert found["weights of resnet34"].state == "note"
    assert "encoder_weights: none" in found["weights of resnet34"].hint
    assert found["weights of eomt"].state == "ok"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert by_name(doctor.examine(path))["weights of resnet34"].state == "missing"


@pytest.mark.parametrize(
    ("gpus", "wanted", "address", "state"),
    [
        ([], 1, "", "missing"),
        ([], 0.5, "local", "missing"),
        ([], 1, "auto", "note"),
        ([], "auto", "", "note"),
        ([], 0, "", "note"),
        (["H100"], 1, "", "ok"),
        (["H100"], 0.25, "", "ok"),
    ],
)
def test_a_sweep_that_asks_for_gpus(
    gpus: list[str], wanted: Any, address: str, state: str,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    report(monkeypatch, gpus=gpus)
    monkeypatch.setenv("RAY_ADDRESS", address)
    found = by_name(doctor.examine(write_sweep(tmp_path, tiny(resources__gpu=wanted))))["GPU"]
    assert found.state == state
    assert bool(found.hint) == (state != "ok")


# the cluster, and MLflow


def test_a_cluster_must_answer(
    listening: int, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scheme in ("", "ray://"):
        monkeypatch.setenv("RAY_ADDRESS", f"{scheme}127.0.0.1:{silent}")
        found = by_name(doctor.examine())["Ray cluster"]
        assert found.state == "missing"
        assert "nobody answers" in found.found
        monkeypatch.setenv("RAY_ADDRESS", f"{scheme}127.0.0.1:{listening}")
        assert by_name(doctor.examine())["Ray cluster"].state == "ok"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert by_name(doctor.examine())["Ray cluster"].state == "note"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert "Ray cluster" not in by_name(doctor.examine())


def test_a_name_that_is_looked_up_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(reach, "SECONDS", 0.05)

    def slow(*_: Any, **__: Any) -> None:
        time.sleep(0.3)
        raise OSError("no such name")

    monkeypatch.setattr(socket, "create_connection", slow)
    assert "no answer" in reach.silence("nowhere.example", 1)


def test_an_mlflow_server_is_asked(
    listening: int, silent: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_sweep(tmp_path, tiny(tracking=["mlflow"]))
    assert "MLflow server" not in by_name(doctor.examine(path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{KEY}@127.0.0.1:{silent}")
    found = by_name(doctor.examine(path))["MLflow server"]
    assert found.state == "note"
    assert KEY not in found.found
    assert "MLflow server" not in by_name(doctor.examine())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listening}")
    assert by_name(doctor.examine(path))["MLflow server"].state == "ok"


# data


def test_images_are_counted(tmp_path: Path) -> None:
    found = by_name(doctor.examine(write_sweep(tmp_path, tiny())))
    assert (found["data"].state, found["data"].found) == ("ok", "12 images, generated")


@pytest.mark.parametrize("root", [None, "empty"])
def test_data_that_validate_refuses_is_missing(root: str | None, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    given = str(tmp_path / root) if root else None
    path = write_sweep(tmp_path, tiny(dataset={"name": "ph2", "root": given}))
    found = by_name(doctor.examine(path))["data"]
    assert found.state == "missing"
    assert "sweep.yaml" in found.found or "empty" in found.found
    assert "PH2_dataset.txt" in found.hint
    assert CliRunner().invoke(app, ["validate", str(path)]).exit_code == 2


def test_data_with_some_mistakes_is_missing_and_decoded_nowhere(tmp_path: Path) -> None:
    for number in range(9):
        for folder in ("images", "masks")[: 1 + (number < 3)]:
            (tmp_path / "d" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "d" / folder / f"{number}.png").write_bytes(b"no picture")
    dataset = {"name": "folder", "root": str(tmp_path / "d"), "image_size": [32, 32]}
    found = doctor.examine(write_sweep(tmp_path, tiny(dataset=dataset)))
    data = [finding for finding in found if finding.what == "data"]
    assert [finding.state for finding in data] == ["missing"] * 4
    assert data[-1].found == "and 3 problems more"
    assert not (tmp_path / "runs").exists()


def test_an_archive_is_not_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "ph2.zip"
    path = write_sweep(tmp_path, tiny(dataset={"name": "ph2", "root": str(archive)}))
    archive.write_bytes(b"cut off")
    assert by_name(doctor.examine(path))["data"].state == "missing"
    zipfile.ZipFile(archive, "w").close()
    assert by_name(doctor.examine(path))["data"].state == "ok"
    assert not (tmp_path / "runs").exists()


# the W&B login


def login() -> Finding:
    found = by_name(doctor.examine())["W&B login"]
    assert KEY not in f"{found.found} {found.hint}"
    return found


def write_netrc(place: Path, host: str, key: str = KEY) -> None:
    place.write_text(f"machine {host}\n login user\n password {key}\n")
    place.chmod(0o600)


@pytest.fixture(params=["wandb's own", "moved"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As W&B reads it, and as we do where its code is elsewhere."""
    if request.param == "moved":
        monkeypatch.setitem(sys.modules, "wandb.sdk.lib.wbauth", None)


@pytest.mark.parametrize("name", [".netrc", "_netrc", "elsewhere"])
@pytest.mark.usefixtures("either")
def test_a_login_is_found_in_each_place(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if name == "elsewhere":
        monkeypatch.setenv("NETRC", str(tmp_path / name))
    assert login().state == "note"
    write_netrc(tmp_path / name, "wandb.example")
    assert login().state == "ok"
    assert name in login().found
    (tmp_path / name).unlink()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert login().state == "ok"


@pytest.mark.usefixtures("either")
def test_the_port_belongs_to_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://localhost:8080")
    write_netrc(tmp_path / ".netrc", "localhost:9000")
    assert login().found == "no key for localhost:8080"
    write_netrc(tmp_path / ".netrc", "localhost:8080")
    assert login().state == "ok"


@pytest.mark.usefixtures("either")
def test_a_malformed_key_is_no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_netrc(tmp_path / ".netrc", "wandb.example", "s3cret")
    assert login().state == "note"
    assert "has no key for wandb.example: " in login().found
    assert "s3cret" not in login().found
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    assert "WANDB_API_KEY holds no key" in login().found
    assert "s3cret" not in login().found


def test_the_server_of_the_settings_file_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("WANDB_BASE_URL")
    settings = tmp_path / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nbase_url = http://own.example:81\n")
    assert login().found == "no key for own.example:81"
    write_netrc(tmp_path / ".netrc", "own.example:81")
    assert login().state == "ok"


def test_an_identity_token_is_a_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    assert "is no file" in login().found
    (tmp_path / "token").write_text("a.b.c")
    assert login().state == "ok"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert "both set" in login().found


def test_an_address_that_is_none_and_a_broken_netrc_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".netrc").write_text(f"machine wandb.example {KEY} {KEY}\n")
    assert login().state == "note"
    monkeypatch.setenv("WANDB_BASE_URL", "nonsense")
    assert wandb_login.look().problem.startswith("no W&B server: ")
    said = capfd.readouterr()
    assert KEY not in said.out + said.err


# how it looks


def test_it_fits_a_narrow_terminal_and_ends_with_what_is_missing() -> None:
    console = Console(width=80, record=True)
    hint = 'pip install -U "ray[tune]>=2.56"'
    show.doctor(console, [Finding("ray", "missing", "2.9 " * 30, hint), Finding("x", "ok", "1")])
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert f"      {hint}" in [line.rstrip() for line in lines]
    assert lines[-1] == "missing: ray"
