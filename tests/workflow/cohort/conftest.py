"""Results of slides whose composition is known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "cohort_synthetic.py"


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The example that writes made-up results."""
    spec = importlib.util.spec_from_file_location("cohort_synthetic", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def study(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of 24 made-up slides of 12 patients, one of no tissue and one that failed; patients.csv and truth.csv."""
    folder = tmp_path_factory.mktemp("study")
    synthetic.write_cohort(folder, 24)
    return folder
