"""Which trial runs next, and which one stops: pure logic over ledger events.

``Search`` is what runners talk to, over the ``Pool`` of all configs. It knows neither Ray nor
torch, so that recorded sweeps can be searched again without either.
"""

from segsweep.search.pool import Pool
from segsweep.search.search import Job, Search

__all__ = ["Job", "Pool", "Search"]
