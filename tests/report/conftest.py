"""Reports that several tests look at, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from segsweep import report
from tests.report.synthetic import large


@pytest.fixture(scope="session")
def large_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 540 trials over 19 classes."""
    return report.write(large(tmp_path_factory.mktemp("large")).write())[0]
