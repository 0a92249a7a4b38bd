"""Taking back: looked at and proven first, then one task per migration on the session that holds the lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.runtime import flow_run as runtime

from lockstep.errors import LockstepError
from lockstep.service.approval.gate import Wanted
from lockstep.service.approved import wanted_revert
from lockstep.service.deploying import ONE_TASK_EACH, artifact_key
from lockstep.service.recording import tell
from lockstep.service.rehearsal.revertgate import Found
from lockstep.service.reporting import revert_report, revert_table
from lockstep.service.reverting import RevertRun, open_revert, revert_step
from lockstep.service.revertpreview import (
    Choice,
    RevertPreview,
    look_only,
    preview_revert,
    prove,
    refuse_lost_since,
    tell_revert,
)
from lockstep.service.status import target_status
from tasks.boundary import step
from tasks.parameters import RevertParameters
from tasks.plan import begin
from tasks.progress import LOG
from tasks.run import current, flow_run_of_deployment, safe


@dataclass(slots=True, kw_only=True)
class TakingBack:
    """What the tasks of one revert share."""

    environment: str
    asked: RevertParameters
    preview: RevertPreview | None = None
    found: Found | None = None  # what is known of it; None: nobody looked
    reverting: RevertRun | None = None  # holds the lock, and the session that all downs run on
    done: list[tuple[str, int]] = field(default_factory=list)  # (file name, ms)
    error: LockstepError | None = None

    @property
    def choice(self) -> Choice:
        return Choice(to_version=self.asked.to_version, steps=self.asked.steps, only=self.asked.only)

    @property
    def plan(self) -> RevertPreview:
        assert self.preview is not None  # `plan_back` came before
        return self.preview

    @property
    def protected(self) -> bool:
        return current().environment(self.environment).protected

    @property
    def in_gates(self) -> bool:
        """Whether it has to be proven first."""
        return self.protected or bool(self.plan.newer)

    @property
    def with_backup(self) -> bool:
        return self.protected or current().settings.backup is not None

    @property
    def parts(self) -> tuple[str, ...]:
        """A task for each: a migration, or all of them where they are many."""
        labels = self.plan.labels
        return labels if len(labels) <= ONE_TASK_EACH else (f"{len(labels)} migrations",)

    @property
    def summary(self) -> str:
        """How it ended, in one sentence."""
        if self.asked.dry_run:
            count = len(self.plan.plan.steps)
            return f"dry run: {count} to take back, nothing was changed" if count else "nothing to take back"
        count = len(self.plan.earlier) + len(self.done)
        held = "it is held" if count == 1 else "they are held"
        return (
            f"{count} reverted ({self.environment}); {held} there until a file changes"
            if count
            else "nothing to revert"
        )


_back: ContextVar[TakingBack] = ContextVar("lockstep_revert")  # of the run under way; Prefect must not see it


@step("plan", "{environment}: plan the revert")
def plan_back(environment: str) -> None:
    """Look what would be taken back, in which order. Read-only."""
    run, back = current(), _back.get()
    back.preview = preview_revert(
        run.settings, run.environment(environment), run.folder, run.info, back.choice,
        overridden=back.asked.override is not None or back.asked.dry_run,
    )  # fmt: skip
    tell_revert(run.progress, back.plan)
    _rename(back)


@step("look", "{environment}: what would be lost")
def look_at_losses(environment: str) -> None:
    """For a dry run: find out what the revert would take and lose. Nothing is changed, no backup is taken."""
    run, back = current(), _back.get()
    back.found = look_only(run.settings, run.environment(environment), run.folder, run.info, run.progress, back.plan)
    for problem in back.found.problems if back.found else ():
        run.progress.note(environment, f"not proven: {problem}")


@step("prove", "{environment}: prove the revert")
def prove_back(environment: str) -> None:
    """Go on only when it is known that this revert leads back and loses nothing, or somebody overrides that."""
    run, back = current(), _back.get()
    back.found = prove(
        run.settings,
        run.environment(environment),
        run.folder,
        run.manifests.get(environment),
        run.info,
        run.progress,
        back.plan,
        back.choice,
        override=back.asked.override,
    )


def wanted_back(back: TakingBack) -> Wanted:
    """Return what is to be approved: the downs that run, and what is known of them."""
    run, preview, found = current(), back.plan, back.found
    assert found is not None  # `prove_back` came before
    return wanted_revert(
        preview.target,
        preview.plan,
        found,
        run.manifests.get(back.environment),
        override=back.asked.override,
        flow_run=flow_run_of_deployment(),
    )


@step("lock", "{environment}: lock")
def take_lock(environment: str) -> None:
    """Take the target's lock and plan again under it; another plan than the one that was looked at is refused."""
    run, back = current(), _back.get()
    own = run.environment(environment)
    back.reverting = run.session.enter_context(
        open_revert(
            run.settings,
            own,
            run.folder,
            run.info,
            expected_digest=back.plan.plan.digest,
            reason=back.asked.reason,
            # The same choice again, in terms of what is left of it.
            to_version=back.asked.to_version,
            steps=None if back.asked.steps is None else len(back.plan.plan.steps),
            only=() if back.asked.only is None else (back.asked.only,),
        )
    )
    back.done = back.reverting.reverted
    if back.in_gates and back.found is not None:
        refuse_lost_since(
            run.settings,
            own,
            run.folder,
            run.manifests.get(environment),
            run.info,
            run.progress,
            back.reverting.work.session,
            back.reverting.plan,
            back.choice,
            back.found,
            override=back.asked.override,
        )
    tell(back.reverting.recording, lambda text: run.progress.note(environment, text))


@contextmanager
def locked_back(environment: str, back: TakingBack) -> Iterator[None]:
    """Hold the lock, and let go of it on any exit. Call the migrations' tasks inside, in the plan's order."""
    run = current()
    with ExitStack() as stack:
        stack.push(run.session.__exit__)  # after a lost connection the schema is not recorded
        take_lock(environment)
        yield
    if back.reverting is not None:
        tell(back.reverting.recording, lambda text: run.progress.note(environment, text))


@step("revert", "{environment}: revert {part}", retry=False)
def take_back(environment: str, part: str) -> None:
    """Run the next down script, or all of them where they are too many for a task each."""
    back = _back.get()
    reverting = back.reverting
    if reverting is None:
        raise RuntimeError("downs run under the lock only: with locked_back(…)")
    left = reverting.plan.steps[len(reverting.reverted) :]
    for following in left if len(back.parts) == 1 else left[:1]:
        revert_step(reverting, following, current().progress, environment)


# -- what it leaves to read --------------------------------------------------------------------------------------------


@contextmanager
def reported_back(environment: str, asked: RevertParameters) -> Iterator[TakingBack]:
    """Store what came of it, well or not, by what the ledger says afterwards. An error goes on."""
    begin(environment)
    back = TakingBack(environment=environment, asked=asked)
    token = _back.set(back)
    try:
        yield back
    except Exception as error:
        back.error = safe(error)
        _quietly(back)
        raise  # `opened` alerts
    else:
        _quietly(back)
    finally:
        _back.reset(token)


def _quietly(back: TakingBack) -> None:
    try:
        report_back(back.environment)
    except LockstepError as error:
        current().progress.note(back.environment, f"the report could not be stored: {error.message}")


@step("report", "{environment}: report")
def report_back(environment: str) -> None:
    """Store a row per migration with its state by the ledger, and a short report."""
    run, back = current(), _back.get()
    run.error = back.error
    now = target_status(run.settings, run.environment(environment), run.folder) if back.preview else None
    rows = revert_table(back.preview, now, back.done, back.error, dry_run=back.asked.dry_run)
    if rows:
        create_table_artifact(rows, key=artifact_key("revert", environment), description=f"run {run.info.run_id}")
    create_markdown_artifact(
        revert_report(
            environment,
            back.preview,
            now,
            back.done,
            back.found.text if back.found else None,
            run_id=run.info.run_id,
            reason=back.asked.reason,
            backup_key=run.results[environment].backup_key,
            error=back.error,
        ),
        key="revert",
        description=f"{environment}: {len(back.done)} reverted",
    )


# -- its name in the UI ------------------------------------------------------------------------------------------------


def revert_name() -> str:
    """Return the name that the flow run starts under; the plan completes it."""
    given = runtime.parameters or {}
    return _name(
        given.get("environment"),
        dry_run=bool(given.get("dry_run")),
        to=given.get("to_version"),
        only=given.get("only"),
        steps=given.get("steps"),
    )


def _name(environment: object, *, dry_run: bool, to: object, only: object, steps: object) -> str:
    what = "plan to revert" if dry_run else "revert"
    if only is not None:
        return f"{what} {environment} only {only}"
    if to is not None:
        return f"{what} {environment} to {to}"
    return f"{what} {environment} by {steps}"


def _rename(back: TakingBack) -> None:
    """Name what stays as its file does: `revert prod to 004`. The name is a convenience: failing is no error."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    preview = back.plan
    only = next(iter(preview.labels), None) if back.asked.only is not None else None
    only = (only or str(back.asked.only)).split("-", 1)[0] if back.asked.only is not None else None
    name = _name(back.environment, dry_run=back.asked.dry_run, to=preview.stays or "none", only=only, steps=None)
    try:
        with get_client(sync_client=True) as client:
            client.set_flow_run_name(context.flow_run.id, name)
    except Exception as error:
        LOG.debug("the run keeps its name: %s", type(error).__name__)
