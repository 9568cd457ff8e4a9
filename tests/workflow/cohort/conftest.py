"""Results of slides whose composition is known."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def study(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of 24 made-up slides of 12 patients, one of no tissue and one that failed; patients.csv and truth.csv."""
    folder = tmp_path_factory.mktemp("study")
    synthetic.write_cohort(folder, 24)
    return folder
