"""The sample databases, made once for all tests of this folder."""

from pathlib import Path

import pytest

from workloads.text2sql.make_databases import make_databases


@pytest.fixture(scope="session")
def sample_databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("databases")
    make_databases(folder)
    return folder
