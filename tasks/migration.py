"""Applying: the lock is taken by one task, and each migration is a task on the session that holds it.

Nothing here is retried but taking the lock: whether a migration was applied is the ledger's to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lockstep.service.applying import ApplyRun, open_apply
from lockstep.service.recording import tell
from lockstep.service.syncing import apply_step, note_audit_end, rely_on
from tasks.boundary import step
from tasks.run import current


@step("lock", "{environment}: lock")
def take_lock(environment: str, digest: str) -> None:
    """Open the work session, take the target's lock and plan again under it; another plan than `digest` is refused."""
    run = current()
    run.applying = run.session.enter_context(
        open_apply(
            run.settings,
            run.environment(environment),
            run.folder,
            run.info,
            to_version=run.asked.to_version,
            include=run.asked.include,
            expected_digest=digest,
        )
    )
    rely_on(run.applying, run.settings, run.results[environment])
    run.results[environment].applied = run.applying.applied
    run.results[environment].recording = run.applying.recording
    tell(run.applying.recording, lambda text: run.progress.note(environment, text))


@contextmanager
def locked(environment: str, digest: str) -> Iterator[None]:
    """Hold the lock, and let go of it on any exit. Call the migrations' tasks inside, in the plan's order."""
    run = current()
    with ExitStack() as stack:
        # What ended the block is told to what was opened: after a lost connection the schema is not recorded.
        stack.push(run.session.__exit__)
        stack.callback(_let_go, environment)
        take_lock(environment, digest)
        yield


def _let_go(environment: str) -> None:
    run = current()
    if run.applying is not None:
        note_audit_end(run.applying, run.results[environment])
    run.applying = None


@step("migration", "{environment}: {migration}", retry=False)
def apply_migration(environment: str, migration: str) -> None:
    """Apply the next migration of the plan: one transaction, or unit by unit where its file asks for it."""
    applying = _applying()
    following = applying.plan.steps[len(applying.applied)]
    if following.label != migration:
        raise RuntimeError(f"{migration} is not the next migration of the plan, which is {following.label}")
    apply_step(applying, following, current().progress, environment)


@step("migrations", "{environment}: {count} migrations", retry=False)
def apply_all(environment: str, count: int) -> None:
    """Apply all migrations of the plan, one after the other, in this one task."""
    applying = _applying()
    applying.hurried = not current().environment(environment).protected
    for following in applying.plan.steps[len(applying.applied) :]:
        apply_step(applying, following, current().progress, environment)


def _applying() -> ApplyRun:
    applying = current().applying
    if applying is None:
        raise RuntimeError("migrations run under the lock only: with locked(…)")
    return applying
