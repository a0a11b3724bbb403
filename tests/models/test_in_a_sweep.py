"""Models that return more than logits in training, or start from a file, in a whole sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from segsweep import models
from segsweep.launching import launch
from tests.helpers import events, tiny, write_sweep
from tests.models.test_eomt import LEVEL

SMALL: dict[str, Any] = {"name": "unet_vanilla", "width": 2}


def test_every_kind_of_model_runs_and_is_scored_on_the_holdout(tmp_path: Path) -> None:
    torch.manual_seed(1)
    donor = models.build(models.resolve(SMALL), classes=2)
    torch.save({f"module.{k}": v for k, v in donor.state_dict().items()}, tmp_path / "w.pth")
    sweep = tiny(
        factors__model=[
            {"name": "erfnet", "width": 4},
            {"name": "u2net_small", "width": 4},
            LEVEL,
            {**SMALL, "weights": str(tmp_path / "w.pth")},
        ],
        factors__loss=["dice", "native"],
        exclude=[
            {"model": "eomt", "loss": "dice"},
            {"model": ["erfnet", "u2net_small", "unet_vanilla"], "loss": "native"},
        ],
        parameters=None,
        configs_per_cell=None,
        train__epochs=1,
        train__lr=1e-9,
    )
    done = launch(write_sweep(tmp_path, sweep), runner="inline")
    assert done.exit_code == 0, done.undecided
    run = done.run_directory
    ends = events(run, "end")
    assert [end["status"] for end in ends] == ["finished"] * 8
    assert len(events(run, "holdout")) == 8
    # a rate of almost nothing: what comes out is what was in the file
    (file,) = [e for e in events(run, "config") if "unet_vanilla" in e["cell"]]
    best = run / "trials" / file["config_id"] / "fold0" / "best.safetensors"
    level = models.resolve({**SMALL, "weights": str(best)})
    found = models.fetch_encoder(level)
    for name, value in donor.named_parameters():
        torch.testing.assert_close(found[name], value.detach(), atol=1e-6, rtol=0)
