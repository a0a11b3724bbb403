"""What a model starts from: a pretrained encoder, a pretrained model, or a file of weights.

The driver fetches each once and hands its state to the trials, so that workers need neither the
network nor the file, and every trial starts from the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from segsweep.errors import Problem, WeightsError
from segsweep.models import smp, weightfile

_SECONDS = 5.0
"""How long the hub has to answer before the cache alone is asked."""

_DEPTH_OF_THEIR_OWN = ("pspnet", "dpt")
"""Architectures that ask timm for other layers than the rest, so that states do not fit both."""

_EOMT_CLASSES = (
    "core.class_predictor.weight",
    "core.class_predictor.bias",
    "core.criterion.empty_weight",
)
"""What of EoMT belongs to its classes, and so starts anew."""


def encoder_key(config: Mapping[str, Any]) -> str | None:
    """``resnet34:imagenet`` where a resolved model wants pretrained weights, else None.

    Models with the same key can be built with the same state. timm leaves out the layers that an
    architecture does not read, so PSPNet and DPT have keys of their own for ``tu-`` encoders.
    A weight file is known by its content.
    """
    if weightfile.KEY in config:
        return f"weights:{config[weightfile.KEY + weightfile.HASH]}"
    if config.get("pretrained", "none") != "none":
        content = config.get(f"pretrained{weightfile.HASH}", config["pretrained"])
        return f"{config['name']}:{content}"
    if config.get("encoder_weights", "none") == "none":
        return None
    architecture, encoder = config["name"].split("/", 1)
    own = encoder.startswith("tu-") and architecture in _DEPTH_OF_THEIR_OWN
    return f"{architecture + '/' if own else ''}{encoder}:{config['encoder_weights']}"


def fetch_encoder(config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The state that a model starts from: of the encoder, or of the model where it has no other.

    From a file, the local cache or the network. Leaves torch's random numbers as they were.

    Args:
        config: a resolved model for which ``encoder_key`` is not None.

    Raises:
        WeightsError: it cannot be had; the message says why and what to do.
    """
    if encoder_key(config) is None:
        raise WeightsError(Problem(f"{config['name']} wants no pretrained weights"))
    if weightfile.KEY in config:
        return weightfile.read(Path(config[weightfile.KEY]))[0]
    if "pretrained" in config:
        return _fetch_eomt(config["pretrained"])
    architecture, encoder = config["name"].split("/", 1)
    try:
        with torch.random.fork_rng(devices=[]), _cache_alone_unless_reachable():
            model = smp.create(architecture, encoder, 1, pretrained=True)
    except Exception as error:
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        what = f"{architecture}: no pretrained weights for the encoder {encoder}: {cause}"
        raise WeightsError(Problem(what, key="encoder_weights", hint=_remedy())) from error
    state: dict[str, torch.Tensor] = model.get_submodule("encoder").state_dict()
    return {name: value.detach().clone() for name, value in state.items()}


def _fetch_eomt(name: str) -> dict[str, torch.Tensor]:
    """EoMT's state from the hub or a folder, without what belongs to its classes."""
    try:
        from transformers import EomtForUniversalSegmentation

        with torch.random.fork_rng(devices=[]), _cache_alone_unless_reachable():
            model = EomtForUniversalSegmentation.from_pretrained(name, dtype=torch.float32)
    except Exception as error:
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        what = f"eomt: no pretrained weights {name}: {cause}"
        raise WeightsError(
            Problem(what, key="pretrained", hint=_remedy("pretrained: none"))
        ) from error
    state: dict[str, torch.Tensor] = model.state_dict()
    return {
        f"core.{key}": value.detach().clone()
        for key, value in state.items()
        if f"core.{key}" not in _EOMT_CLASSES
    }


def load_start(
    model: torch.nn.Module, state: Mapping[str, torch.Tensor], config: Mapping[str, Any]
) -> None:
    """Load what ``fetch_encoder`` returned for ``config`` into a model built from it.

    Raises:
        WeightsError: a name or shape does not agree.
    """
    if weightfile.KEY in config:
        weightfile.load_exactly(model, state, config["name"])
    elif "pretrained" in config:
        own = model.state_dict()
        classes = {name: own[name] for name in _EOMT_CLASSES}
        try:
            weightfile.load_exactly(model, {**state, **classes}, config["name"])
        except WeightsError as error:
            hint = "give eomt the sizes of the pretrained model: hidden_size, layers, heads, …"
            raise WeightsError(
                [replace(problem, key="pretrained", hint=hint) for problem in error.problems]
            ) from error
    else:
        load_encoder(model, state, config)


def load_encoder(
    model: torch.nn.Module, state: Mapping[str, torch.Tensor], config: Mapping[str, Any]
) -> None:
    """Load ``state`` into the model's encoder; every name and shape must agree.

    Raises:
        WeightsError: they do not.
    """
    try:
        # a copy, because the library renames entries of what it is given
        model.get_submodule("encoder").load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        cause = " ".join(str(error).split())[:300]
        what = f"{config['name']}: these encoder weights do not fit: {cause}"
        hint = f"they must come from fetch_encoder for {encoder_key(config)}"
        raise WeightsError(Problem(what, key="encoder_weights", hint=hint)) from error


def _remedy(setting: str = "encoder_weights: none") -> str:
    from huggingface_hub import constants

    return (
        f"set {setting}, or run once where the network is reachable, or copy the "
        f"Hugging Face cache of a machine that has them to {constants.HF_HUB_CACHE}"
    )


@contextmanager
def _cache_alone_unless_reachable() -> Iterator[None]:
    """Ask the hub once; where it does not answer, read the cache instead of retrying for long.

    Left alone, the client retries a dead network for most of a minute for each file.
    """
    from huggingface_hub import constants, get_session

    before = constants.HF_HUB_OFFLINE
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
