"""Parameters: what Optuna searches inside a cell, in W&B's words.

A parameter is a value, a list of values, or a distribution. Normal distributions, which Optuna
does not have, are searched as their quantile: ``decode`` turns it into the value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from segsweep.registry import suggest

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = bool | int | float | str | None

# distribution → the keys that it takes beside `distribution`; those after the bar may be left out
DISTRIBUTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "constant": (("value",), ()),
    "categorical": (("values",), ()),
    "int_uniform": (("min", "max"), ()),
    "uniform": (("min", "max"), ()),
    "q_uniform": (("min", "max"), ("q",)),
    "log_uniform_values": (("min", "max"), ()),
    "q_log_uniform_values": (("min", "max"), ("q",)),
    "normal": (("mu", "sigma"), ()),
    "q_normal": (("mu", "sigma"), ("q",)),
    "log_normal": (("mu", "sigma"), ()),
    "q_log_normal": (("mu", "sigma"), ("q",)),
}
MIN_Q = 1e-12
MAX_EXPONENT = 600.0
EDGE = 1e-4  # quantiles of a normal distribution are searched in [EDGE, 1 - EDGE]
EPOCHS, BATCH_SIZE = "train.epochs", "train.batch_size"  # of a trial config
SPREAD = 64  # values that stand for a range


class Parameter(BaseModel):
    """One searched parameter; the distribution follows from the keys where it is not named."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    distribution: str | None = None
    value: Value = None
    values: list[Value] | None = None
    min: int | float | None = None
    max: int | float | None = None
    mu: float | None = None
    sigma: float | None = None
    q: float | None = None

    @property
    def kind(self) -> str:
        """The distribution's name, inferred as W&B does where the file does not say."""
        if self.distribution is not None:
            return self.distribution
        if self.values is not None:
            return "categorical"
        if "value" in self.model_fields_set:
            return "constant"
        both_int = isinstance(self.min, int) and isinstance(self.max, int)
        return "int_uniform" if both_int else "uniform"


Mistake = tuple[str, str, str]  # key inside the parameter (may be empty), what, hint


def mistakes(parameter: Parameter) -> list[Mistake]:
    """Everything that is wrong with one parameter."""
    kind = parameter.kind
    if kind == "log_uniform":
        hint = "its bounds are exponents in W&B; use log_uniform_values, whose bounds are values"
        return [("distribution", "log_uniform is not supported", hint)]
    if kind not in DISTRIBUTIONS:
        return [("distribution", f"unknown distribution {kind!r}", suggest(kind, DISTRIBUTIONS))]
    needed, optional = DISTRIBUTIONS[kind]
    given = parameter.model_fields_set - {"distribution"}
    found: list[Mistake] = []
    for key in needed:
        if key not in given:
            hint = f"{kind} takes {', '.join(needed + optional)}"
            found.append(("", f"{kind} needs {key!r}", hint))
    for key in sorted(given - set(needed) - set(optional)):
        takes = ", ".join(needed + optional)
        found.append((key, f"{key!r} does not go with {kind}", f"{kind} takes {takes}"))
    return found or _range_mistakes(parameter, kind)


def _range_mistakes(parameter: Parameter, kind: str) -> list[Mistake]:
    found: list[Mistake] = []
    numbers = {"min": parameter.min, "max": parameter.max, "sigma": parameter.sigma}
    for key in ("mu", "q"):
        numbers[key] = getattr(parameter, key)
    for key, number in numbers.items():
        if number is not None and not math.isfinite(number):
            found.append((key, f"{key} is {number}", "write a finite number"))
    if found:
        return found
    if parameter.min is not None and parameter.max is not None:
        if parameter.min > parameter.max:
            what = f"min {parameter.min} is greater than max {parameter.max}"
            found.append(("min", what, "swap them"))
        if kind == "int_uniform" and not all(
            isinstance(bound, int) for bound in (parameter.min, parameter.max)
        ):
            found.append(("min", "int_uniform takes whole numbers", "or use uniform"))
        if "log_uniform_values" in kind:
            for key in ("min", "max"):
                if numbers[key] is not None and numbers[key] <= 0:  # type: ignore[operator]
                    what = f"{key} {numbers[key]} is not above 0, which a logarithm needs"
                    found.append((key, what, "use a positive bound, or distribution: uniform"))
    if parameter.values is not None and not parameter.values:
        found.append(("values", "the list is empty", "name at least one value"))
    if parameter.values is not None:
        kinds = [repr(value) for value in parameter.values]
        twice = list(dict.fromkeys(kind for kind in kinds if kinds.count(kind) > 1))
        if twice:
            found.append(("values", f"{', '.join(twice)} stands twice", "name each value once"))
    if parameter.sigma is not None and parameter.sigma <= 0:
        found.append(("sigma", f"sigma {parameter.sigma} is not above 0", ""))
    if parameter.q is not None and parameter.q <= 0:
        found.append(("q", f"q {parameter.q} is not above 0", ""))
    elif parameter.q is not None and parameter.q < MIN_Q:
        found.append(("q", f"q {parameter.q} is below {MIN_Q}", "use an unrounded distribution"))
    furthest = abs(parameter.mu or 0) + 4 * (parameter.sigma or 0)
    if kind in ("log_normal", "q_log_normal") and furthest > MAX_EXPONENT:
        what = "mu and sigma are of the logarithm, and lead beyond what a number can hold"
        found.append(("mu", what, "mu: 0 is a median of 1"))
    return found


def distribution(parameter: Parameter) -> BaseDistribution:
    """The Optuna distribution that is searched for ``parameter``."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    kind, low, high = parameter.kind, parameter.min, parameter.max
    if kind == "constant":
        return CategoricalDistribution([parameter.value])
    if kind == "categorical":
        return CategoricalDistribution(parameter.values or [])
    if "normal" in kind:
        return FloatDistribution(EDGE, 1 - EDGE)
    assert low is not None  # noqa: S101 - checked by `mistakes`
    assert high is not None  # noqa: S101
    if kind == "int_uniform":
        return IntDistribution(int(low), int(high))
    return FloatDistribution(float(low), float(high), log="log" in kind)


def decode(parameter: Parameter, raw: Any) -> Value:
    """The value that ``raw``, a draw from ``distribution(parameter)``, stands for."""
    kind = parameter.kind
    value: Any = raw
    if "normal" in kind:
        from scipy.stats import norm

        value = float(norm.ppf(raw, loc=parameter.mu, scale=parameter.sigma))
        value = math.exp(value) if "log" in kind else value
    if kind.startswith("q_"):
        step = 1.0 if parameter.q is None else parameter.q
        value = round(value / step) * step
        whole = float(step).is_integer()
        value = round(value) if whole else float(f"{value:.12g}")
    return value  # type: ignore[no-any-return]


def grid_values(parameter: Parameter) -> list[Value] | None:
    """All values of a parameter that a grid can cross; None where it is a continuous range."""
    if parameter.kind == "constant":
        return [parameter.value]
    if parameter.kind == "categorical":
        return list(parameter.values or [])
    return None


def finite_values(parameter: Parameter) -> Sequence[Value] | None:
    """All values that can ever be drawn; None where there is no end of them."""
    if parameter.kind == "int_uniform":
        return range(int(parameter.min or 0), int(parameter.max or 0) + 1)
    return grid_values(parameter)


def probes(parameter: Parameter) -> list[Value]:
    """Values to try a parameter with before anything is started: all listed ones, or the ends."""
    listed = grid_values(parameter)
    if listed is not None:
        return listed
    if "normal" in parameter.kind:
        return [decode(parameter, q) for q in (EDGE, 0.5, 1 - EDGE)]
    return [decode(parameter, parameter.min), decode(parameter, parameter.max)]


def spread(parameter: Parameter, most: int = SPREAD) -> list[Value]:
    """Values as likely as a random draw has them: all there are, or evenly spaced quantiles.

    Args:
        parameter: a sound one.
        most: of a range that has more values, so many stand for it.
    """
    listed = finite_values(parameter)
    if listed is not None and (parameter.kind != "int_uniform" or len(listed) <= most):
        return list(listed)
    quantiles = [(i + 0.5) / most for i in range(most)]
    if listed is not None:
        return [listed[int(q * len(listed))] for q in quantiles]
    if "normal" in parameter.kind:
        return [decode(parameter, q) for q in quantiles]
    low, high = float(parameter.min or 0), float(parameter.max or 0)
    if "log" in parameter.kind:
        return [decode(parameter, low * (high / low) ** q) for q in quantiles]
    return [decode(parameter, low + q * (high - low)) for q in quantiles]


def get_path(tree: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path.

    Raises:
        KeyError: no such path.
    """
    node: Any = tree
    for part in path.split("."):
        if not isinstance(node, Mapping):
            raise KeyError(path)
        node = node[part]
    return node


def with_paths(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``tree`` with each dotted path of ``values`` replaced."""
    result = dict(tree)
    for path, value in values.items():
        _set(result, path.split("."), value)
    return result


def _set(node: dict[str, Any], parts: list[str], value: Any) -> None:
    head, *rest = parts
    if not rest:
        node[head] = value
        return
    node[head] = dict(node[head])
    _set(node[head], rest, value)


def leaves(tree: Mapping[str, Any], keep: Callable[[Any], bool] = lambda _: True) -> list[str]:
    """The dotted paths of every leaf of ``tree``, for a list of valid names."""
    found: list[str] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found += [f"{key}.{path}" for path in leaves(value, keep)]
        elif keep(value):
            found.append(key)
    return found


@dataclass(frozen=True)
class Cell:
    """One combination of factor levels.

    Attributes:
        name: the levels' labels, ``segnet/bce``.
        levels: label of each factor's level.
        config: the trial config with every default, before parameters are filled in.
        parameters: those whose path exists in ``config``.
        budget: how many configs the cell gets.
    """

    name: str
    levels: Mapping[str, str]
    config: Mapping[str, Any]
    parameters: Mapping[str, Parameter]
    budget: int

    def fill(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """The trial config with a value for every parameter."""
        return with_paths(self.config, values)

    def own(self, path: str) -> list[Value]:
        """Values that a key has in the cell's configs, as likely as a random draw has them.

        Args:
            path: of the trial config, ``train.epochs``; it exists in the cell.
        """
        if path in self.parameters:
            return spread(self.parameters[path])
        return [get_path(self.config, path)]

    def bounds(self, path: str) -> tuple[int, int]:
        """The least and the largest whole number that a key has in the cell's configs."""
        given: list[Any] = [get_path(self.config, path)]
        if path in self.parameters:
            given = list(probes(self.parameters[path]))
        return min(map(int, given)), max(map(int, given))
