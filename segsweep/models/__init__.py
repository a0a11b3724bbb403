"""Models: the table of our own, those of segmentation-models-pytorch, and how one is built.

A resolved model is ``{"name": "unet_strided", "width": 32}``: the name and every option. Its name
is an entry of ``MODELS`` or ``architecture/encoder``. ``weights: FILE`` beside it starts from a
file. Images are (N, 3, H, W); logits have the same height and width and one channel a class, a
single one (the foreground) for two classes. In training a model may return more
(``losses.Outputs``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from segsweep.errors import Problem, UserError, WeightsError
from segsweep.identity import canonical
from segsweep.models import fit, smp, weightfile
from segsweep.models.eomt import EoMT
from segsweep.models.erfnet import ERFNet
from segsweep.models.segnet import SegNet
from segsweep.models.u2net import U2Net, U2NetSmall
from segsweep.models.unet_strided import UNetStrided
from segsweep.models.unet_vanilla import UNetVanilla
from segsweep.models.weights import encoder_key, fetch_encoder, load_start
from segsweep.registry import differing, fill, options, suggest

__all__ = [
    "MODELS",
    "TriedModels",
    "bare",
    "build",
    "encoder_key",
    "fetch_encoder",
    "native_loss",
    "notices",
    "out_channels",
    "problems",
    "resolve",
    "title",
    "try_out",
]

MODELS: Final[dict[str, Callable[..., nn.Module]]] = {
    "segnet": SegNet,
    "unet_vanilla": UNetVanilla,
    "unet_strided": UNetStrided,
    "erfnet": ERFNet,
    "u2net": U2Net,
    "u2net_small": U2NetSmall,
    "eomt": EoMT,
}
FROM_DISK: Final = (weightfile.KEY, "pretrained")  # options that may name a file or a folder


def resolve(level: str | Mapping[str, Any]) -> dict[str, Any]:
    """The full model from what a user wrote.

    Args:
        level: a name, or a mapping with ``name`` and some options.

    Returns:
        ``name`` and every option. Beside one that names a file or folder stands the hash of
        its content, ``weights_sha256``; where it is given, the content must still be that.

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
    from_disk, mistakes = _from_disk(given)
    if weightfile.KEY in from_disk and "/" in name:  # all weights come from the file
        given.setdefault("encoder_weights", "none")
    mistakes += _name_problems(name, weights=given.get("encoder_weights") != "none")
    filled: dict[str, Any] = {}
    if "/" in name or name in MODELS:
        filled, wrong = fill(_constructor(name), given, what=f"model {name!r}")
        mistakes += wrong
        if weightfile.KEY in from_disk and encoder_key({"name": name, **filled}):
            option = "encoder_weights" if "/" in name else "pretrained"
            what = f"weights are those of the whole model: {option} would be lost"
            mistakes.append(Problem(what, key=option, hint=f"set {option}: none"))
    if mistakes:
        raise UserError(mistakes)
    return {"name": name, **filled, **from_disk}


def _from_disk(given: dict[Any, Any]) -> tuple[dict[str, str], list[Problem]]:
    """Files that a level names, with their hashes; ``weights`` is taken out of ``given``."""
    found: dict[str, str] = {}
    problems = []
    for option in FROM_DISK:
        key = f"{option}{weightfile.HASH}"
        wanted, value = given.pop(key, None), given.get(option)
        if option == weightfile.KEY:
            given.pop(option, None)
            if value is not None and not isinstance(value, str):
                problems.append(Problem(f"not the name of a file: {value!r}", key=option))
                continue
        if not isinstance(value, str) or (option == "pretrained" and not Path(value).is_dir()):
            if wanted is not None:
                problems.append(Problem(f"{option} is gone, and {key} is given", key=option))
            continue
        try:
            hashed = weightfile.digest(Path(value))
        except UserError as error:
            problems += [replace(problem, key=option) for problem in error.problems]
            continue
        if wanted not in (None, hashed):
            what = f"{value} is not the file it was: SHA-256 {hashed}, not {wanted}"
            problems.append(Problem(what, key=option, hint="put it back, or remove " + key))
        found |= {option: value, key: hashed}
    return found, problems


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
            not fit. To load a checkpoint over the model, build the ``bare`` one.
    """
    name: str = config["name"]
    key = encoder_key(config)
    if (key is None) != (encoder_state is None):
        what = f"{name} wants the weights {key}, and none were given"
        if key is None:
            what = f"{name} wants no pretrained weights, but some were given"
        raise WeightsError(Problem(what, key="encoder_weights"))
    if "/" in name:
        architecture, encoder = name.split("/", 1)
        model = smp.create(architecture, encoder, out_channels(classes))
    else:
        own = options(MODELS[name]).model_fields
        model = MODELS[name](out_channels(classes), **{k: config[k] for k in own if k in config})
    if encoder_state is not None:
        load_start(model, encoder_state, config)
    return model


def bare(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same model from random weights: no file, no pretrained part."""
    plain = {
        k: v for k, v in config.items() if k != weightfile.KEY and not k.endswith(weightfile.HASH)
    }
    return plain | {k: "none" for k in ("encoder_weights", "pretrained") if k in plain}


def native_loss(config: Mapping[str, Any]) -> bool:
    """Whether a model brings its own loss, and so is trained with ``loss: native`` alone."""
    return bool(getattr(MODELS.get(config["name"]), "native_loss", False))


def notices(config: Mapping[str, Any]) -> list[str]:
    """What a user should know about a resolved model that works: what a file's names became."""
    if weightfile.KEY not in config:
        return []
    _, notes = weightfile.read(Path(config[weightfile.KEY]))
    return [f"{config[weightfile.KEY]}: {note}" for note in notes]


def try_out(config: Mapping[str, Any], *, classes: int, image_size: tuple[int, int]) -> fit.Tried:
    """Build a resolved model and run it at ``image_size``, as evaluation and as training will.

    A weight file is read and held against the model. All else uses random weights, the CPU and
    one image, or two; torch's random numbers stay as they were.

    Args:
        config: what ``resolve`` returned.
        classes: number of classes of the data set.
        image_size: height and width in pixels.
    """
    label = config["name"] if "/" in config["name"] else title(config)
    with torch.random.fork_rng(devices=[]):
        try:
            model = build(bare(config), classes=classes)
        except Exception as error:
            text = f"{label}: {fit.cause(error)}"
            return fit.Tried([Problem(text, hint=_pair_hint(config["name"]))])
        wrong = _file_problems(model, config, label)
        channels = out_channels(classes)
        found = fit.try_out(model, label, channels=channels, image_size=image_size)
        return replace(found, problems=[*wrong, *found.problems])


def problems(
    config: Mapping[str, Any], *, classes: int, image_size: tuple[int, int]
) -> list[Problem]:
    """Why a resolved model cannot work at ``image_size``; see ``try_out``."""
    return list(try_out(config, classes=classes, image_size=image_size).problems)


class TriedModels:
    """Models that were tried at one image size, each once.

    Args:
        classes: number of classes of the data set.
        image_size: height and width in pixels.
    """

    def __init__(self, classes: int, image_size: tuple[int, int]) -> None:
        self.classes, self.image_size = classes, image_size
        self._found: dict[str, fit.Tried] = {}

    def of(self, config: Mapping[str, Any]) -> fit.Tried:
        """What has come of a resolved model."""
        key = canonical(config)
        if key not in self._found:
            found = try_out(config, classes=self.classes, image_size=self.image_size)
            self._found[key] = found
        return self._found[key]


def title(config: Mapping[str, Any]) -> str:
    """A short label: ``segnet``, ``unet/resnet34``, ``unet_strided(width=32)``."""
    name: str = config["name"]
    changed = [differing(_constructor(name), config)]
    for option in FROM_DISK:  # by content: a file that was moved is still the same
        if hashed := config.get(f"{option}{weightfile.HASH}"):
            plain = f"{option}={config[option]}"
            changed = [part for text in changed for part in text.split(", ") if part != plain]
            changed.append(f"{option}={hashed[:8]}")
    inside = ", ".join(part for part in changed if part)
    return f"{name}({inside})" if inside else name


def _file_problems(model: nn.Module, config: Mapping[str, Any], label: str) -> list[Problem]:
    """Where the weight file that a config names does not fit."""
    if weightfile.KEY not in config:
        return []
    try:
        state, _ = weightfile.read(Path(config[weightfile.KEY]))
    except WeightsError as error:
        return list(error.problems)
    return weightfile.fit_problems(model, state, label)


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
