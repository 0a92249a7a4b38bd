"""Stages for tests: a project's environment is backed up, restored, and looked at on a clone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lockstep.postgres.entries import RunInfo
from lockstep.service.filling import StoredBackup
from lockstep.service.progress import Silent
from lockstep.service.rehearsal.stage import Clone, Stage, open_stage
from lockstep.service.rehearsal.trials import Tried, try_plan
from lockstep.service.safeguard import take_backup
from lockstep.service.store import open_store
from tests.project import Project

RUN = RunInfo(run_id="20261130-000000-test")


@contextmanager
def backed_up(project: Project, environment: str = "prod") -> Iterator[StoredBackup]:
    """A fresh backup of an environment, and its bucket open."""
    settings = project.settings()
    manifest = take_backup(settings, settings.environment(environment), RUN, Silent(), reason="test").manifest
    with open_store(settings) as store:
        yield store.stored(manifest)


@contextmanager
def staged(project: Project, environment: str = "prod", *, run: RunInfo | None = None) -> Iterator[Stage]:
    """A stage on a fresh backup of an environment."""
    settings = project.settings()
    with (
        backed_up(project, environment) as backup,
        open_stage(settings, settings.environment(environment), backup, Silent(), run=run) as stage,
    ):
        yield stage


def tried(project: Project, clone: Clone) -> Tried:
    """The pending files on a clone."""
    return try_plan(clone, project.files(), RUN, Silent())
