"""Models of segmentation-models-pytorch: ``architecture/encoder``, names checked, built bare.

Nothing here downloads; ``weights.py`` does. The library is imported where it is first needed,
because it takes seconds and a trial with one of our own models does without.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

from torch import nn

from segsweep.errors import Problem
from segsweep.registry import suggest

ARCHITECTURES: Final = (
    "unet",
    "unetplusplus",
    "manet",
    "linknet",
    "fpn",
    "pspnet",
    "deeplabv3",
    "deeplabv3plus",
    "pan",
    "upernet",
    "segformer",
    "dpt",
)

_TIMM = "tu-"
_ELSEWHERE = (
    "a list is at https://smp.readthedocs.io/en/latest/encoders.html; "
    "any encoder of timm is tu-<its name>"
)


def smp_options(*, encoder_weights: Literal["imagenet", "none"] = "imagenet") -> None:
    """What a user may set for such a model: its parameters are the options.

    Args:
        encoder_weights: ``imagenet`` starts the encoder from pretrained weights (for a ``tu-``
            encoder those that timm keeps under its name), ``none`` from random ones.
    """


def create(
    architecture: str, encoder: str, out_channels: int, *, pretrained: bool = False
) -> nn.Module:
    """The model, with logits of ``out_channels`` channels.

    Args:
        architecture: one of ``ARCHITECTURES``.
        encoder: a name of the library, or ``tu-`` and a name of timm.
        out_channels: number of output channels.
        pretrained: let the library download the encoder's weights (``weights.py`` alone asks).

    Raises:
        Exception: whatever the library raises for a pair that does not fit.
    """
    import segmentation_models_pytorch as smp

    weights: str | bool | None = None
    if pretrained:
        weights = True if encoder.startswith(_TIMM) else "imagenet"
    arguments: dict[str, object] = {
        "encoder_name": encoder,
        "encoder_weights": weights,
        "classes": out_channels,
    }
    with _known_warnings_off():
        if architecture == "dpt":
            model = _create_dpt(arguments)
        else:
            model = smp.create_model(architecture, **arguments)
    if not isinstance(model, nn.Module):
        raise TypeError(f"{architecture} is no torch module")
    return model


def _create_dpt(arguments: dict[str, object]) -> object:
    """DPT with any image size where the transformer can: not all of timm's know the option."""
    import segmentation_models_pytorch as smp

    try:
        return smp.create_model("dpt", **arguments, dynamic_img_size=True)
    except TypeError as error:
        if "dynamic_img_size" not in str(error):
            raise
    return smp.create_model("dpt", **arguments)


@contextmanager
def _known_warnings_off() -> Iterator[None]:
    """Silence what the library says about choices that are ours."""
    with warnings.catch_warnings():
        # DPT with a transformer that has no class token: "cat" then reads the features alone
        warnings.filterwarnings("ignore", message="Encoder does not have prefix tokens")
        yield


def name_problems(architecture: str, encoder: str, *, weights: bool) -> list[Problem]:
    """What is wrong with the names.

    Args:
        architecture: what stands before the slash.
        encoder: what stands behind it.
        weights: whether pretrained weights are wanted.
    """
    problems = []
    if architecture not in ARCHITECTURES:
        what = f"unknown architecture {architecture!r}"
        problems.append(Problem(what, hint=suggest(architecture, ARCHITECTURES)))
    if encoder.startswith(_TIMM):
        problems += _timm_problems(encoder, weights=weights)
    else:
        problems += _encoder_problems(encoder, weights=weights)
    return problems


def _encoder_problems(encoder: str, *, weights: bool) -> list[Problem]:
    """What is wrong with an encoder of the library itself."""
    import timm
    from segmentation_models_pytorch.encoders import encoders

    if encoder.startswith("timm-"):
        modern = f"{_TIMM}{encoder.removeprefix('timm-')}"
        hint = f"the library has given its timm- encoders up: try {modern}"
        return [Problem(f"unknown encoder {encoder!r}", hint=hint)]
    if encoder not in encoders:
        names = [name for name in encoders if not name.startswith("timm-")]
        if encoder and timm.is_model(encoder):
            names = [f"{_TIMM}{encoder}"]
        return [Problem(f"unknown encoder {encoder!r}", hint=_near(encoder, names))]
    if weights and "imagenet" not in encoders[encoder]["pretrained_settings"]:
        return [_no_weights(encoder)]
    return []


def _timm_problems(encoder: str, *, weights: bool) -> list[Problem]:
    """What is wrong with an encoder of timm's, ``tu-name`` or ``tu-name.tag``."""
    import timm

    name = encoder.removeprefix(_TIMM)
    if not timm.is_model(name):
        hint = _near(encoder, _timm_names())
        return [Problem(f"unknown encoder {encoder!r}: timm has no {name!r}", hint=hint)]
    if "." in name and not timm.is_model_pretrained(name):
        tags = timm.list_models(f"{name.split('.')[0]}.*", pretrained=True)
        hint = _near(encoder, [f"{_TIMM}{tag}" for tag in tags])
        return [Problem(f"unknown weights {encoder!r} of timm", hint=hint)]
    if weights and not timm.is_model_pretrained(name):
        return [_no_weights(encoder)]
    return []


def _no_weights(encoder: str) -> Problem:
    what = f"there are no imagenet weights for the encoder {encoder}"
    return Problem(what, key="encoder_weights", hint="set encoder_weights: none")


def _timm_names() -> list[str]:
    import timm

    return [f"{_TIMM}{name}" for name in timm.list_models()]


def _near(name: str, names: Iterable[str]) -> str:
    """A hint for one of a thousand names: the nearest few, and where the others are listed."""
    near = difflib.get_close_matches(name, list(names), n=5, cutoff=0.6)
    if not near:
        return f"for example resnet34, mit_b0, tu-resnest50d; {_ELSEWHERE}"
    return f"did you mean {near[0]!r}? near: {', '.join(near)}; {_ELSEWHERE}"
