"""Runs in a process of its own: does torch import, what does it see, which weights are there?

Started by its path, ``python child.py encoder:resnet34 …``; prints one line of JSON. It imports
nothing of segsweep, and downloads nothing.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

# the first loads what is compiled, the second fails where that was not to be loaded
BUILT = ("extension", "_meta_registrations")
# the names that a hub's repository may keep weights under
FILES = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")


def _torch() -> dict[str, Any]:
    import torch

    available = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count() * available)]
    return {"version": torch.__version__, "cuda": torch.version.cuda, "gpus": names}


def _import_torchvision(*, whole: bool) -> None:
    """Import it, or, in half the time, the part alone that is built against one torch."""
    spec = importlib.util.find_spec("torchvision")
    places = list((spec and spec.submodule_search_locations) or [])
    if whole or not places or not all((Path(places[0]) / f"{part}.py").is_file() for part in BUILT):
        importlib.import_module("torchvision")
        return
    package = types.ModuleType("torchvision")  # without what its own __init__ imports
    package.__path__ = places
    sys.modules["torchvision"] = package
    for part in BUILT:
        importlib.import_module(f"torchvision.{part}")


def _ask_for_operator() -> None:
    """What is compiled for another torch may be left out silently."""
    import torch

    if not hasattr(torch.ops.torchvision, "nms"):
        raise RuntimeError("operator torchvision::nms does not exist")


def _cached(kind: str, name: str) -> bool | None:
    """Whether the cache has weights; None where it cannot be told."""
    from huggingface_hub import try_to_load_from_cache

    revision: str | None = None
    files: tuple[str, ...] = FILES
    if kind == "eomt":
        repository = name
    elif name.startswith("tu-"):
        import timm

        own: Any = timm.get_pretrained_cfg(name.removeprefix("tu-"))
        if own is None or not own.hf_hub_id:
            return None
        repository, _, at = own.hf_hub_id.partition("@")
        revision, files = at or None, (own.hf_hub_filename or FILES[0], FILES[1])
    else:
        from segmentation_models_pytorch.encoders import encoders

        settings = encoders[name]["pretrained_settings"]["imagenet"]
        repository, revision, files = settings["repo_id"], settings["revision"], FILES[:1]
    found = [try_to_load_from_cache(repository, file, revision=revision) for file in files]
    return any(isinstance(path, str) for path in found)


def main(wanted: list[str]) -> None:
    """Try one thing after the other, and say how each went."""
    found: dict[str, Any] = {"broken": {}, "weights": {}}
    try:
        found |= _torch()
    except Exception as error:
        found["broken"]["torch"] = _line(error)
    else:
        try:
            _import_torchvision(whole=bool(wanted))
            _ask_for_operator()
        except Exception as error:
            found["broken"]["torchvision"] = _line(error)
    for one in wanted:
        kind, _, name = one.partition(":")
        try:
            found["weights"][one] = _cached(kind, name)
        except Exception:  # no such encoder, or a library that is missing: told elsewhere
            found["weights"][one] = None
    sys.stdout.write(f"\n{json.dumps(found)}\n")


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200] if text else 'no message'}"


if __name__ == "__main__":
    main(sys.argv[1:])
