"""A model that can be shipped: exporting the champion of a sweep, and predicting with it.

``exporting.export`` writes the folder, ``predicting.predict`` uses it. The folder's files are
listed in ``folder.py``.
"""
