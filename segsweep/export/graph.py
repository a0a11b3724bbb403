"""The model as an ONNX graph, which is written only where it computes what torch computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segsweep.errors import Problem, RunError
from segsweep.export import capture
from segsweep.export.capture import INPUT, OUTPUT, Unfit, first, quiet

TOLERANCE = 1e-4
LIMIT = 1_800_000_000  # bytes of weights beyond which they get a file of their own (2 GiB a file)
STEP = 32  # the other size that a graph of any size is tried at is so much larger
INSTALL = 'pip install "segsweep[export]"'


@dataclass(frozen=True)
class Graph:
    """What is known about a written graph.

    Attributes:
        opset: of ONNX.
        any_size: height and width may vary, not the batch alone.
        multiple_of: what they must be divisible by, as far as was tried; 0 for one size.
        why_one_size: the reason where they may not.
        difference: the largest between onnxruntime's logits and torch's.
        largest: the largest logit of torch's, in absolute value.
        sizes: batch, height and width of the images that were compared.
    """

    opset: int
    any_size: bool
    multiple_of: int
    why_one_size: str
    difference: float
    largest: float
    sizes: tuple[tuple[int, int, int], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        return asdict(self)


def require(opset: int | None = None) -> None:
    """Is what ONNX needs installed, and can both libraries use this opset?

    Raises:
        RunError: not; the message has the command, or the opsets.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        hint = f"{INSTALL}, or --no-onnx for the weights alone"
        raise RunError(Problem(f"ONNX needs {error.name}", hint=hint)) from error
    if opset is None:
        return
    known = onnx.defs.onnx_opset_version()
    newest = next((one for one in range(known, 1, -1) if _loads(one)), 1)
    if not 1 <= opset <= newest:
        what = f"there is no opset {opset} in the installed onnx"
        if newest < opset <= known:
            what = f"the installed onnxruntime cannot load opset {opset}"
        hint = f"1 to {newest}; 18 to 20 hold every model, many need 18"
        raise RunError(Problem(what, key="--opset", hint=hint))


def _loads(opset: int) -> bool:
    """Does onnxruntime take a graph of this opset? It is behind onnx, and does not say where."""
    import onnxruntime
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    same = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", opset)]
    version = helper.find_min_ir_version_for(opsets, ignore_unknown=True)
    tried = helper.make_model(same, opset_imports=opsets, ir_version=version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(
            tried.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception:  # the runtime's own classes have none in common
        return False
    return True


def write(
    model: nn.Module,
    path: Path,
    image_size: tuple[int, int],
    images: torch.Tensor,
    *,
    opset: int | None = None,
    any_size: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> Graph:
    """Export, compare with torch, and write where they agree.

    The graph takes float32 ``image`` (N, 3, H, W), normalised, and gives float32 ``logits``
    (N, C, H, W). N is free; so are H and W where the model can be exported so, which is tried
    first and proven at another size.

    Args:
        model: on the CPU, in evaluation mode.
        path: of the graph.
        image_size: height and width that the model was trained at, in pixels.
        images: (N, 3, *image_size) normalised, to compare with.
        opset: of ONNX; None leaves it to the exporter.
        any_size: False goes straight to one size.
        metadata: what the graph tells of itself, as ``metadata_props``.

    Raises:
        RunError: the model cannot be exported, not to this opset, or computes something else.
    """
    require(opset)
    parts = (model, path, image_size, images, opset)
    why = "not tried"
    if any_size:
        try:
            return _write(*parts, any_size=True, why="", metadata=metadata or {})
        except Unfit as error:
            why = str(error)
    try:
        return _write(*parts, any_size=False, why=why, metadata=metadata or {})
    except Unfit as error:
        raise RunError(Problem(f"no ONNX graph: {error}", "", "", _WITHOUT)) from error


_WITHOUT = "--no-onnx exports the weights alone, for which predict uses torch"


def _write(
    model: nn.Module,
    path: Path,
    image_size: tuple[int, int],
    images: torch.Tensor,
    opset: int | None,
    *,
    any_size: bool,
    why: str,
    metadata: Mapping[str, str],
) -> Graph:
    other = (image_size[0] + STEP, image_size[1] + 2 * STEP)
    # traced away from the trained size, which a model may treat as a special case
    example = _noise(2, other if any_size else image_size)
    program = capture.export(model, example, opset, any_size=any_size)
    found = _opset(program)
    if opset is not None and found != opset:
        what = f"opset {opset} cannot hold this model: {_reason(program, opset)}"
        hint = f"leave --opset out, or: {_WITHOUT}"
        raise RunError(Problem(what, key="--opset", hint=hint))
    program.model.metadata_props.update(metadata)
    _save(program, model, path)
    session = open_session(path)
    found_all = [_compare(model, session, batch) for batch in (images, _noise(1, image_size))]
    multiple = 0
    if any_size:
        multiple, elsewhere = _elsewhere(model, session, image_size)
        found_all.append(elsewhere)
    worst = max(found_all, key=lambda one: one.share)
    if worst.share > TOLERANCE:
        what = f"the graph's logits differ from torch's by {worst.difference:.2g}, where the "
        raise Unfit(f"{what}largest is {worst.largest:.3g}")
    return Graph(
        opset=found,
        any_size=any_size,
        multiple_of=multiple,
        why_one_size=why,
        difference=worst.difference,
        largest=worst.largest,
        sizes=tuple(one.size for one in found_all),
    )


@dataclass(frozen=True)
class _Compared:
    """One batch: the largest difference of logits, and the largest logit of torch's."""

    size: tuple[int, int, int]
    difference: float
    largest: float

    @property
    def share(self) -> float:
        return self.difference / max(1.0, self.largest)


def _elsewhere(
    model: nn.Module, session: Any, image_size: tuple[int, int]
) -> tuple[int, _Compared]:
    """The least of 1, 2, 4 … 32 whose odd multiples go through as sizes, and what came of it."""
    error: Exception | None = None
    multiple = 1
    while multiple <= STEP:
        height, width = (
            (side + more) // (2 * multiple) * 2 * multiple + multiple
            for side, more in zip(image_size, (2 * STEP, STEP), strict=True)
        )
        try:
            found = _compare(model, session, _noise(2, (height, width)))
            if found.share <= TOLERANCE:
                return multiple, found
        except Unfit as one:
            error = one
        multiple *= 2
    raise Unfit(str(error or "the graph computes something else at other sizes"))


def _noise(count: int, size: tuple[int, int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, *size, generator=generator)


def _save(program: Any, model: nn.Module, path: Path) -> None:
    """One file, or two where the weights are too large for one."""
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    with quiet():
        program.save(str(path), external_data=weights > LIMIT)


def _opset(program: Any) -> int:
    return int(program.model.opset_imports[""])


def _reason(program: Any, opset: int) -> str:
    """Why the graph cannot be brought to ``opset``, in the converter's words."""
    import onnx

    try:
        onnx.version_converter.convert_version(program.model_proto, opset)
    except Exception as error:  # it raises plain RuntimeErrors, and others
        return first(error)
    return f"the exporter stays at {_opset(program)}"


def _compare(model: nn.Module, session: Any, batch: torch.Tensor) -> _Compared:
    size = (len(batch), int(batch.shape[2]), int(batch.shape[3]))
    try:
        with torch.inference_mode():
            expected = model(batch).numpy()
        found = session.run([OUTPUT], {INPUT: batch.contiguous().numpy()})[0]
    except Exception as error:  # the runtime's own classes, and whatever a model meets
        text = f"{size[1]}×{size[2]} does not go through the graph: {first(error)}"
        raise Unfit(text) from error
    if expected.shape[2:] != batch.shape[2:]:
        raise Unfit(f"{size[1]}×{size[2]} comes out as another size")
    if found.shape != expected.shape:
        raise Unfit(f"the graph gives a shape of {found.shape}, not {expected.shape}")
    difference, largest = float(np.abs(found - expected).max()), float(np.abs(expected).max())
    if not np.isfinite(difference):
        raise Unfit("logits are not finite")
    return _Compared(size, difference, largest)


def open_session(path: Path, threads: int = 0) -> Any:
    """An onnxruntime session, on the GPU where the installed one can use it.

    Args:
        path: of the graph.
        threads: of the CPU; 0 leaves it to the library.

    Raises:
        Unfit: it cannot be loaded.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised as well
    usable = onnxruntime.get_available_providers()
    wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in usable]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=wanted)
    except Exception as error:  # the runtime's own classes have none in common
        raise Unfit(f"onnxruntime cannot load it: {first(error)}") from error
