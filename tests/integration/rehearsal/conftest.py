"""Fixtures of the rehearsal tests: a project with a protected prod, on a real server, with a real bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.backup.conftest import new_store, s3, store
from tests.integration.backup.store import Store
from tests.project import Project

__all__ = ["new_store", "s3", "store"]

PROD = "protected = true"


@pytest.fixture
def prod(tmp_path: Path, new_database: Callable[[], str], store: Store) -> Iterator[Project]:
    """A project of one protected environment, prod, with a ledger and an empty migrations folder."""
    (tmp_path / "migrations").mkdir()
    project = Project(folder=tmp_path, urls={"prod": new_database()})
    project.variables["AWS_EC2_METADATA_DISABLED"] = "true"
    project.toml = f'[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
    project.configure(prod=PROD)
    assert project.run("init").code == 0
    yield project
