"""What a person sees while a sweep runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from segsweep.display import Display, duration
from segsweep.launching import launch
from tests.helpers import tiny, write_sweep
from tests.search.simulate import book, make_cell, make_search, make_spec, run


def test_not_a_terminal_gives_plain_lines(tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, width=200)
    launch(write_sweep(tmp_path, tiny()), runner="inline", console=console)
    lines = [line for line in out.getvalue().splitlines() if line.startswith("[")]
    assert len(lines) == 8
    assert "\x1b" not in out.getvalue()
    assert lines[-1].startswith("[100 %]")
    assert "unet_vanilla/dice lr=" in lines[-1]


def test_the_live_picture_has_bar_running_trials_and_ranking(tmp_path: Path) -> None:
    spec = make_spec(early_stopping={"type": "none"})
    cells = [make_cell("a/b", 2), make_cell("c/b", 2)]
    search = make_search(tmp_path, spec, cells)
    display = Display(Console(width=120), spec, cells, [])
    book(search).listen(display.on_event)
    run(search, limit=50)
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(display.render())
    text = console.export_text()
    assert "46 %" in text  # 50 of 108 epochs
    assert "epoch 5/9" in text
    assert "ranking so far" in text
    assert "a/b" in text
    assert "±" in text


def test_what_is_stopped_counts_as_done(tmp_path: Path) -> None:
    spec = make_spec()
    cells = [make_cell("a/b", 12)]
    search = make_search(tmp_path, spec, cells)
    display = Display(Console(width=120), spec, cells, [])
    book(search).listen(display.on_event)
    run(search)
    assert display.work.over


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (89, "89 s"), (600, "10 min"), (11100, "3 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
