"""Numbers and tables on a terminal: no digit is cut, and nothing has no sign."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from segsweep.printing import number, signed, whole


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"),
    [
        (-0.0, "0.000", "0.000"),
        (-0.0004, "0.000", "0.000"),
        (0.0004, "0.000", "0.000"),
        (0.0006, "0.001", "+0.001"),
        (-0.0006, "-0.001", "-0.001"),
        (85.1634, "85.163", "+85.163"),
    ],
)
def test_nothing_has_no_sign(value: float, plain: str, with_sign: str) -> None:
    assert (number(value), signed(value)) == (plain, with_sign)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_text_gives_way_and_numbers_do_not(width: int) -> None:
    grid = Table(box=None, pad_edge=False)
    grid.add_column("model", overflow="fold")
    for name in ("NLL at T = 1", "gain [95 %]"):
        grid.add_column(name, justify="right", no_wrap=True)
    label = "unet_resnet18 cross_entropy+dice lr=0.00123 wd=0.0001 batch=8"
    grid.add_row(label, "76.2134", "+36.373 [-36.373, 85.163]")
    out = io.StringIO()
    whole(Console(file=out, width=width), grid)
    text = out.getvalue()
    assert "…" not in text
    for part in ("NLL at T = 1", "gain [95 %]", "76.2134", "+36.373 [-36.373, 85.163]"):
        assert part in text
    widest = max(len(line.rstrip()) for line in text.splitlines())
    assert widest <= max(width, 60)
