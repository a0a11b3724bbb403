"""Handing a model to the exporter: what stands in its way is moved out of it, and put back."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

INPUT, OUTPUT = "image", "logits"
# buffers that a model decides by: torch.export cannot look at a tensor's value, at a list's it can
CONSTANTS = ("attn_mask_probs",)


class Unfit(Exception):
    """This way of exporting does not work; another may."""


def export(model: nn.Module, example: torch.Tensor, opset: int | None, *, any_size: bool) -> Any:
    """The exporter's program, from ``example`` (N, 3, H, W); N is free, with any_size H and W too.

    Raises:
        Unfit: it refuses.
    """
    free = torch.export.Dim.DYNAMIC
    shapes = {0: free, 2: free, 3: free} if any_size else {0: free}
    try:
        with constants(model), quiet(), torch.no_grad():
            captured = torch.export.export(
                model, (example,), dynamic_shapes=(shapes,), strict=False
            )
            return torch.onnx.export(
                captured,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
    except Exception as error:  # whatever the exporter meets
        raise Unfit(f"the exporter refuses it: {first(_root(error))}") from error


@contextlib.contextmanager
def constants(model: nn.Module) -> Iterator[None]:
    """Buffers whose value decides which way a model goes become plain lists meanwhile."""
    moved: list[tuple[nn.Module, str, torch.Tensor, bool]] = []
    for part in model.modules():
        for name in CONSTANTS:
            buffer = part._buffers.get(name)
            if buffer is not None:
                moved.append((part, name, buffer, name not in part._non_persistent_buffers_set))
                delattr(part, name)
                setattr(part, name, buffer.tolist())
    try:
        yield
    finally:
        for part, name, buffer, persistent in moved:
            delattr(part, name)
            part.register_buffer(name, buffer, persistent=persistent)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter tells its whole graph to the terminal; what matters of it is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def first(error: BaseException) -> str:
    """An exception's kind and message on one line, 200 characters at most."""
    text = " ".join(str(error).split())[:200].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
