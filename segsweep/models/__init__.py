"""Models: the table of our own, those of segmentation-models-pytorch, and how one is built.

A resolved model is ``{"name": "unet_strided", "width": 32}``: the name and every option. Its name
is an entry of ``MODELS`` or ``architecture/encoder``. Images are (N, 3, H, W); logits have the
same height and width and one channel a class, a single one (the foreground) for two classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import nn

from segsweep.errors import Problem, UserError, WeightsError
from segsweep.models import fit, smp
from segsweep.models.segnet import SegNet
from segsweep.models.unet_strided import UNetStrided
from segsweep.models.unet_vanilla import UNetVanilla
from segsweep.models.weights import encoder_key, fetch_encoder, load_encoder
from segsweep.registry import differing, fill, suggest

__all__ = [
    "MODELS",
    "build",
    "encoder_key",
    "fetch_encoder",
    "out_channels",
    "problems",
    "resolve",
    "title",
]

MODELS: Final[dict[str, Callable[..., nn.Module]]] = {
    "segnet": SegNet,
    "unet_vanilla": UNetVanilla,
    "unet_strided": UNetStrided,
}


def resolve(level: str | Mapping[str, Any]) -> dict[str, Any]:
    """The full model from what a user wrote.

    Args:
        level: a name, or a mapping with ``name`` and some options.

    Returns:
        ``name`` and every option.

    Raises:
        UserError: every mistake at once; ``key`` is the option's name, ``""`` for the whole.
    """
    given: dict[Any, Any]
    if isinstance(level, str):
        given = {"name": level}
    elif isinstance(level, Mapping) and isinstance(level.get("name"), str):
        given = dict(level)
    else:
        hint = "write segnet, unet/resnet34 or {name: unet_strided, width: 32}"
        raise UserError(Problem(f"not a model: {level!r}", hint=hint))
    name: str = given.pop("name")
    mistakes = _name_problems(name, weights=given.get("encoder_weights") != "none")
    options: dict[str, Any] = {}
    if "/" in name or name in MODELS:
        options, wrong = fill(_constructor(name), given, what=f"model {name!r}")
        mistakes += wrong
    if mistakes:
        raise UserError(mistakes)
    return {"name": name, **options}


def out_channels(classes: int) -> int:
    """Output channels for a data set of ``classes`` classes: 1 for two, else one each."""
    return 1 if classes == 2 else classes


def build(
    config: Mapping[str, Any],
    *,
    classes: int,
    encoder_state: Mapping[str, torch.Tensor] | None = None,
) -> nn.Module:
    """The model that a resolved config describes, on the CPU. Downloads nothing.

    Args:
        config: what ``resolve`` returned.
        classes: number of classes of the data set, background included.
        encoder_state: what ``fetch_encoder`` returned for this config's ``encoder_key``.

    Raises:
        WeightsError: pretrained weights are wanted and not given, given and not wanted, or do
            not fit. To load a checkpoint over the model, build it with ``encoder_weights: none``.
    """
    options = dict(config)
    name: str = options.pop("name")
    key = encoder_key(config)
    if (key is None) != (encoder_state is None):
        what = f"{name} wants the encoder weights {key}, and none were given"
        if key is None:
            what = f"{name} wants no pretrained encoder weights, but some were given"
        raise WeightsError(Problem(what, key="encoder_weights"))
    if "/" not in name:
        return MODELS[name](out_channels(classes), **options)
    architecture, encoder = name.split("/", 1)
    model = smp.create(architecture, encoder, out_channels(classes))
    if encoder_state is not None:
        load_encoder(model, encoder_state, config)
    return model


def problems(
    config: Mapping[str, Any], *, classes: int, image_size: tuple[int, int]
) -> list[Problem]:
    """Why a resolved model cannot work at ``image_size``, found by building and running it.

    Uses random weights, the CPU and one image; leaves torch's random numbers as they were.

    Args:
        config: what ``resolve`` returned.
        classes: number of classes of the data set.
        image_size: height and width in pixels.
    """
    bare = dict(config)
    if "encoder_weights" in bare:
        bare["encoder_weights"] = "none"
    label = config["name"] if "/" in config["name"] else title(config)
    with torch.random.fork_rng(devices=[]):
        try:
            model = build(bare, classes=classes)
        except Exception as error:
            text = f"{label}: {fit.cause(error)}"
            return [Problem(text, hint=_pair_hint(config["name"]))]
        channels = out_channels(classes)
        return fit.size_problems(model, label, channels=channels, image_size=image_size)


def title(config: Mapping[str, Any]) -> str:
    """A short label: ``segnet``, ``unet/resnet34``, ``unet_strided(width=32)``."""
    name: str = config["name"]
    changed = differing(_constructor(name), config)
    return f"{name}({changed})" if changed else name


def _constructor(name: str) -> Callable[..., Any]:
    """Whose keyword-only parameters are the options of the model called ``name``."""
    return smp.smp_options if "/" in name else MODELS[name]


def _name_problems(name: str, *, weights: bool) -> list[Problem]:
    if "/" in name:
        return smp.name_problems(*name.split("/", 1), weights=weights)
    if name in MODELS:
        return []
    hint = suggest(name, [*MODELS, *(f"{a}/<encoder>" for a in smp.ARCHITECTURES)])
    if name.lower() in smp.ARCHITECTURES:
        hint = f"an architecture needs an encoder: {name.lower()}/resnet34"
    return [Problem(f"unknown model {name!r}", hint=hint)]


def _pair_hint(name: str) -> str:
    """What to do about an architecture and an encoder that cannot be joined."""
    architecture, _, encoder = name.partition("/")
    if architecture == "dpt":
        return "dpt takes timm's vision transformers, for example dpt/tu-vit_base_patch16_224"
    if not encoder:
        return ""
    return f"choose another encoder for {architecture}, or another architecture for {encoder}"
