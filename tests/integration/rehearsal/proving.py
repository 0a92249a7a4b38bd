"""A plan rehearsed as far as its ways back go: a backup of a project's prod, a stage, trial A, then what the test wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from lockstep.core.rehearsal.proof import RevertProof
from lockstep.postgres.entries import RunInfo
from lockstep.service.progress import Silent
from lockstep.service.rehearsal.proofs import prove
from lockstep.service.rehearsal.stage import Stage, open_stage
from lockstep.service.rehearsal.trials import Tried, try_plan
from lockstep.service.run import new_run_id
from lockstep.service.safeguard import take_backup
from lockstep.service.store import open_store
from tests.project import Project


@contextmanager
def tried(prod: Project, *, include: Iterable[int] = ()) -> Iterator[tuple[Stage, Tried, RunInfo]]:
    """Back prod up, restore it, and try what is pending."""
    settings, environment = prod.settings(), prod.environment("prod")
    run = RunInfo(run_id=new_run_id())
    manifest = take_backup(settings, environment, run, Silent()).manifest
    with open_store(settings) as store, open_stage(settings, environment, store.stored(manifest), Silent()) as stage:
        yield stage, try_plan(stage.clone(), prod.files(), run, Silent(), include=include), run


def proofs(prod: Project, *, include: Iterable[int] = ()) -> dict[int, RevertProof]:
    """Return the proofs of what is pending, by version."""
    with tried(prod, include=include) as (stage, found, run):
        return {one.version or 0: one for one in prove(stage, found, prod.files(), run, include=include)}
