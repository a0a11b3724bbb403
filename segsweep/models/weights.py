"""Pretrained encoders: which one a model wants, and the download. Only the driver calls this.

The driver fetches each encoder once and hands its state to the trials, so that workers need no
network and every trial starts from the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from segsweep.errors import Problem, WeightsError
from segsweep.models import smp

_SECONDS = 5.0
"""How long the hub has to answer before the cache alone is asked."""

_DEPTH_OF_THEIR_OWN = ("pspnet", "dpt")
"""Architectures that ask timm for other layers than the rest, so that states do not fit both."""


def encoder_key(config: Mapping[str, Any]) -> str | None:
    """``resnet34:imagenet`` where a resolved model wants pretrained weights, else None.

    Models with the same key can be built with the same state. timm leaves out the layers that an
    architecture does not read, so PSPNet and DPT have keys of their own for ``tu-`` encoders.
    """
    if config.get("encoder_weights", "none") == "none":
        return None
    architecture, encoder = config["name"].split("/", 1)
    own = encoder.startswith("tu-") and architecture in _DEPTH_OF_THEIR_OWN
    return f"{architecture + '/' if own else ''}{encoder}:{config['encoder_weights']}"


def fetch_encoder(config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The state of the pretrained encoder, from the local cache or the network.

    Leaves torch's random numbers as they were.

    Args:
        config: a resolved model for which ``encoder_key`` is not None.

    Raises:
        WeightsError: it cannot be had; the message says why and what to do.
    """
    if encoder_key(config) is None:
        raise WeightsError(Problem(f"{config['name']} wants no pretrained weights"))
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


def _remedy() -> str:
    from huggingface_hub import constants

    return (
        "set encoder_weights: none, or run once where the network is reachable, or copy the "
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
