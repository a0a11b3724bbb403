"""What the pixels of masks mean: decided once, of a whole dataset.

A file alone does not say whether its 255 is foreground or "no label", whether a palette's first
colour is what a person takes for background, or whether a mask is stored in its alpha.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from segsweep.data.sources.seen import MOST_CODES, MaskSeen, Value
from segsweep.errors import Problem

IGNORE = 255
"""The one value that means "no label here" in every cached mask."""

WHITE = 255
_BLACK, _WHITE = (0, 0, 0), (WHITE, WHITE, WHITE)
_SOFT = 16  # different greys and more are edges that something has smoothed
_SAME_MISTAKE = 3  # so many files and more are named by the first of them
_ONE_CHANNEL = "save masks with one channel and no alpha, whose values are the classes"


@dataclass
class Settled:
    """What a dataset's masks mean.

    Attributes:
        tables: for each mask the label of every code.
        notes: what a person should know, a sentence each.
        problems: what cannot be read.
    """

    tables: list[NDArray[np.uint8]]
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class Meaning(ABC):
    """From pixel values to labels.

    Attributes:
        ordered: does a brighter value mean "more" of something, as in masks of one class?
    """

    ordered = False

    def settle(self, masks: Sequence[MaskSeen]) -> Settled:
        """The labels of the codes of all masks of a dataset."""
        settled = Settled([np.zeros(MOST_CODES, np.uint8) for _ in masks])
        values = _without_alpha(masks, settled, ordered=self.ordered)
        labelled = self._labels(masks, values, settled)
        known = ", ".join(map(str, labelled.known))
        unknown: dict[tuple[int, ...], list[tuple[MaskSeen, int]]] = {}
        for mask, own, table, label in zip(masks, values, settled.tables, labelled.of, strict=True):
            odd: list[Value] = []
            for code, (value, one) in enumerate(zip(own, mask.used, strict=True)):
                found = label(one, value)
                table[code] = 0 if found is None else found
                if found is None:
                    odd.append(Value(value, one.count))
            if odd or not mask.whole:
                key = tuple(sorted({one.value for one in odd}))
                unknown.setdefault(key, []).append((mask, sum(one.count for one in odd)))
        for odd_values, files in unknown.items():
            settled.problems += _unknown(odd_values, files, known, labelled.hint)
        return settled

    @abstractmethod
    def _labels(
        self, masks: Sequence[MaskSeen], values: Sequence[Sequence[int]], settled: Settled
    ) -> _Labels:
        """How labels are found; notes and problems of the whole are added to ``settled``.

        Args:
            masks: all of them.
            values: what counts of each code of each mask: colour or alpha.
            settled: to add to.
        """


@dataclass(frozen=True)
class _Labels:
    """For each mask, the label of a pixel and its value; the values that are known; and a hint."""

    of: Sequence[Callable[[Value, int], int | None]]
    known: Sequence[int]
    hint: str = ""


class Table(Meaning):
    """Labels by a table: pixel value → label or IGNORE. A palette's indices are the values."""

    def __init__(self, table: Mapping[int, int]) -> None:
        self._table = dict(table)

    def _labels(
        self, masks: Sequence[MaskSeen], values: Sequence[Sequence[int]], settled: Settled
    ) -> _Labels:
        table = self._table
        ignored = tuple(value for value, label in table.items() if label == IGNORE)
        reversed_ = [mask for mask in masks if _reversed(mask, ignored)]
        used = {colour for mask in masks for colour in _colours(mask, ignored)}
        if reversed_ and (len(used) == 2 or all(map(_grey, used))):
            settled.notes.append(_by_index(reversed_, masks))

        def label(_: Value, value: int) -> int | None:
            return table.get(value)

        return _Labels([label] * len(masks), sorted(table))


class Binary(Meaning):
    """Background and foreground, the foreground being 1 or 255, or what a person sees as bright.

    Args:
        ignore: the pixel value that means "no label here".
        options: does the dataset take ``classes`` and ``ignore_index``?
    """

    ordered = True

    def __init__(self, ignore: int | None = None, *, options: bool = False) -> None:
        self._ignore = ignore
        self._options = options

    def _labels(
        self, masks: Sequence[MaskSeen], values: Sequence[Sequence[int]], settled: Settled
    ) -> _Labels:
        bright = self._by_brightness(masks, settled)
        plain = [
            (mask, set(own) - {self._ignore})
            for mask, own in zip(masks, values, strict=True)
            if not _one_bit(mask) and not (bright and mask.indexed)
        ]
        highest = WHITE if any(WHITE in own for _, own in plain) else 1
        table = {0: 0, highest: 1}
        if self._refuse_both(plain, settled):
            table[1] = 1  # said once, of the whole
        known = {0, highest, *([] if self._ignore is None else [self._ignore])}

        def by_value(_: Value, value: int) -> int | None:
            return IGNORE if value == self._ignore else table.get(value)

        def by_bit(_: Value, value: int) -> int | None:
            return value if value in (0, 1) else None

        def by_colour(one: Value, value: int) -> int | None:
            if value == self._ignore:
                return IGNORE
            return bright[one.colour] if one.colour is not None else None

        of = [
            by_colour if bright and mask.indexed else by_bit if _one_bit(mask) else by_value
            for mask in masks
        ]
        return _Labels(of, sorted(known), self._hint(plain, masks))

    def _by_brightness(
        self, masks: Sequence[MaskSeen], settled: Settled
    ) -> dict[tuple[int, int, int], int]:
        """Colour → label, where palettes show two greys, or black or white alone."""
        ignored = () if self._ignore is None else (self._ignore,)
        used = sorted({colour for mask in masks for colour in _colours(mask, ignored)})
        if len(used) == 1 and used[0] in (_BLACK, _WHITE):
            return {used[0]: int(used[0] == _WHITE)}
        if len(used) != 2:
            return {}
        dark, light = used
        if not (_grey(dark) and _grey(light)):
            if reversed_ := [mask for mask in masks if _reversed(mask, ignored)]:
                settled.notes.append(_by_index(reversed_, masks))
            return {}
        if turned := [mask for mask in masks if _against_index(mask, light, ignored)]:
            settled.notes.append(
                f"{_of(turned, masks)} have a palette whose order is not that of brightness: they "
                "are read as they look, the brighter grey being the foreground"
            )
        return {dark: 0, light: 1}

    def _refuse_both(self, plain: Sequence[tuple[MaskSeen, set[int]]], settled: Settled) -> bool:
        """Files with 1 and files with 255: it may be foreground or "no label" in them."""
        ones = [mask for mask, own in plain if 1 in own and WHITE not in own]
        whites = [mask for mask, own in plain if WHITE in own and 1 not in own]
        if not ones or not whites:
            return False
        what = (
            f"{len(ones)} of {len(plain)} masks have the values 0 and 1 (such as "
            f"{ones[0].path.name}), and {len(whites)} have 255 (such as {whites[0].path.name}): is "
            "255 foreground, or no label?"
        )
        hint = "save all masks with the same values"
        if self._options:
            hint = f"set `ignore_index: 255` where 255 means no label; else {hint}"
        settled.problems.append(Problem(what, str(whites[0].path.parent), hint=hint))
        return True

    def _hint(self, plain: Sequence[tuple[MaskSeen, set[int]]], masks: Sequence[MaskSeen]) -> str:
        """What to write into the sweep file, where that ends it."""
        if not self._options:
            return ""
        found = sorted(set[int]().union(*(own for _, own in plain)))
        if any({1, WHITE} <= own for _, own in plain) and set(found) <= {0, 1, WHITE}:
            return "set `ignore_index: 255` where 255 means no label"
        if len(found) > _SOFT:
            return f"masks have soft edges ({len(found)} greys): threshold them, and save as PNG"
        if len(plain) < len(masks) or len(found) != 2 or set(found) <= {0, 1, WHITE}:
            return ""
        dark, light = found
        classes = f"classes: {{background: {dark}, foreground: {light}}}"
        return f"where {light} is the foreground, set `{classes}`"


def _unknown(
    values: Sequence[int], files: Sequence[tuple[MaskSeen, int]], known: str, hint: str
) -> list[Problem]:
    """Values that stand for no class, one problem a file or for many files with the same."""
    shown = ", ".join(map(str, values[:8])) + (", …" if len(values) > 8 else "")
    alike = len(files) >= _SAME_MISTAKE
    problems = []
    for mask, count in files[:1] if alike else files:
        what = f"{count} pixels have values that stand for no class: {shown}"
        if not mask.whole:
            what = f"has more than {MOST_CODES} different values"
        if alike:
            what += f"; so it is with {len(files) - 1} more masks"
        told = [f"known values: {known}", hint]
        if mask.path.suffix.lower() in {".jpg", ".jpeg"}:
            told.append("JPEG changes pixel values, save masks as PNG")
        problems.append(Problem(what, str(mask.path), hint="; ".join(filter(None, told))))
    return problems


def _of(some: Sequence[MaskSeen], masks: Sequence[MaskSeen]) -> str:
    return f"{len(some)} of {len(masks)} masks"


def _by_index(some: Sequence[MaskSeen], masks: Sequence[MaskSeen]) -> str:
    return (
        f"{_of(some, masks)} have a palette whose order is not that of brightness: the values are "
        "the places in the palette, not what is seen as dark and bright"
    )


def _colours(mask: MaskSeen, ignored: Sequence[int]) -> list[tuple[int, int, int]]:
    """The colours that are used, by their places in the palette."""
    used = sorted(mask.used, key=lambda one: one.value)
    return [one.colour for one in used if one.colour is not None and one.value not in ignored]


def _grey(colour: tuple[int, int, int]) -> bool:
    return len(set(colour)) == 1


def _brightness(colour: tuple[int, int, int]) -> float:
    """ITU-R BT.601 luma."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _reversed(mask: MaskSeen, ignored: Sequence[int]) -> bool:
    shades = [_brightness(colour) for colour in _colours(mask, ignored)]
    return shades != sorted(shades)


def _against_index(mask: MaskSeen, light: tuple[int, int, int], ignored: Sequence[int]) -> bool:
    """Would its indices, 0 as background and others as foreground, say otherwise?"""
    return any(
        (one.colour == light) == (one.value == 0)
        for one in mask.used
        if one.colour is not None and one.value not in ignored
    )


def _without_alpha(
    masks: Sequence[MaskSeen], settled: Settled, *, ordered: bool
) -> list[list[int]]:
    """What counts of each pixel of each mask: its colour, or alpha where the mask is in that."""
    kinds = [_alpha_kind(mask, ordered) for mask in masks]
    own: dict[str, list[MaskSeen]] = {}
    for mask, kind in zip(masks, kinds, strict=True):
        own.setdefault(kind, []).append(mask)
    for mask in own.get("apart", []):
        what = "colour and alpha of the mask disagree: which of them holds the classes?"
        settled.problems.append(Problem(what, str(mask.path), hint=_ONE_CHANNEL))
    inside = own.get("inside", [])
    beside = [mask for kind in ("", "colour", "agrees") for mask in own.get(kind, [])]
    if inside and beside:
        what = (
            f"{_of(inside, masks)} are stored in their alpha channel (such as "
            f"{inside[0].path.name}), and {len(beside)} are not (such as {beside[0].path.name})"
        )
        settled.problems.append(Problem(what, str(inside[0].path.parent), hint=_ONE_CHANNEL))
    elif inside:
        settled.notes.append(
            f"{_of(inside, masks)} have one colour, and the mask in their alpha channel: it is read"
        )
    if some := own.get("agrees", []):
        settled.notes.append(
            f"{_of(some, masks)} have an alpha channel that parts pixels as their colour does: it "
            "is left out"
        )
    read = {"inside", "one"} if inside else set()
    return [
        [one.alpha if kind in read and one.alpha is not None else one.value for one in mask.used]
        for mask, kind in zip(masks, kinds, strict=True)
    ]


def _alpha_kind(mask: MaskSeen, ordered: bool) -> str:
    """How colour and alpha of a mask go together.

    Returns:
        "" without alpha; ``one`` where both are the same everywhere; ``colour`` where alpha is;
        ``inside`` where the colour is; ``agrees`` where the colour says what alpha is (and, if
        ``ordered``, the brighter is no less visible); else ``apart``.
    """
    alphas = {one.alpha for one in mask.used}
    if alphas <= {None}:
        return ""
    values = {one.value for one in mask.used}
    if len(alphas) == 1:
        return "one" if len(values) == 1 else "colour"
    if len(values) == 1:
        return "inside"
    if len(values) < len(mask.used) or not mask.whole:
        return "apart"
    visible = [one.alpha or 0 for one in sorted(mask.used, key=lambda one: one.value)]
    return "agrees" if not ordered or visible == sorted(visible) else "apart"


def _one_bit(mask: MaskSeen) -> bool:
    """Black and white, and neither palette nor alpha: 1 is what is seen as white."""
    return mask.bits == 1 and not mask.indexed and all(one.alpha is None for one in mask.used)
