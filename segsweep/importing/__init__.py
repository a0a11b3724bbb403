"""A W&B sweep file as one of ours, and what of it could not be taken over, line by line."""

from segsweep.importing.conversion import Imported, untouched
from segsweep.importing.convert import convert

__all__ = ["Imported", "convert", "untouched"]
