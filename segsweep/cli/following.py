"""What to type next: a command a line, so that it can be copied."""

from __future__ import annotations

from rich.console import Console


def following(console: Console, *commands: str, head: str = "next") -> None:
    """Commands to go on with; the first has ``head`` before it."""
    for place, command in enumerate(commands):
        text = f"{'' if place else head:12}{command}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def go_on(console: Console, command: str, why: str = "interrupted; go on") -> None:
    """What to type after an interruption, or where something is left."""
    text = f"{why} with   {command}"
    console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
