"""The databases of the workflows, made once for all tests of this folder."""

from pathlib import Path

import pytest

from workloads.databases.make import make_scaled_databases
from workloads.text2sql.make_databases import make_databases


@pytest.fixture(scope="session")
def sample_databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("databases")
    make_databases(folder)
    return folder


@pytest.fixture(scope="session")
def scaled_databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scaled")
    make_scaled_databases(folder)
    return folder
