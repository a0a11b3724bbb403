"""The sweep file: its shape, its defaults, and every mistake of it at once.

What a name *means* (does the model exist, does the data lie there) is ``check.py``'s business.
"""

from segsweep.spec.reading import load, override, parse, read, recorded
from segsweep.spec.shape import SweepSpec, Train, to_plain

__all__ = ["SweepSpec", "Train", "load", "override", "parse", "read", "recorded", "to_plain"]
