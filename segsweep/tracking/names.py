"""What an epoch's numbers are called where they are drawn: the same for every tracker."""

from __future__ import annotations

from collections.abc import Collection

from segsweep.ledger import Event

UNDRAWN = ("time", "best_epoch")  # numbers of an epoch event that are no curve


def curve(name: str) -> str:
    """``val_iou_oval_spot`` is drawn as ``val/iou_oval_spot``, ``train_loss`` as ``train/loss``."""
    if name == "train_loss":
        return "train/loss"
    return f"val/{name.removeprefix('val_')}" if name.startswith("val_") else name


def curves(event: Event, besides: Collection[str] = ()) -> dict[str, int | float]:
    """What of an epoch is drawn over steps.

    Args:
        event: an epoch of the ledger.
        besides: further numbers that are not to be drawn.
    """
    return {
        curve(name): value
        for name, value in event.items()
        if isinstance(value, (int, float)) and name not in (*UNDRAWN, *besides)
    }
