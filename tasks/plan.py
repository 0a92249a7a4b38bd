"""What would run on one environment, and whether that is what was shown to whoever started the run."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.service.approval.gate import refuse_overtaking
from lockstep.service.deploying import earlier, refuse_unexpected
from lockstep.service.promotion import refuse_unpromoted
from lockstep.service.syncing import EnvironmentResult, preview_target, refuse_held
from tasks.boundary import step
from tasks.run import current, rename


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan as the flow's body needs it."""

    digest: str
    labels: tuple[str, ...]  # of the migrations to apply, in order
    protected: bool  # gates come first


@step("plan", "{environment}: plan")
def plan(environment: str) -> None:
    """Plan one environment. Read-only. Refuses a plan that is not the expected one."""
    run = current()
    result = run.results[environment]
    preview = preview_target(
        run.settings,
        run.environment(environment),
        run.folder,
        run.progress,
        result,
        to_version=run.asked.to_version,
        include=run.asked.include,
    )
    result.earlier = earlier(preview.plan, run.info.run_id)
    if result.earlier:
        run.progress.note(environment, f"{len(result.earlier)} applied by this run before")
    refuse_unexpected(
        environment,
        preview.target,
        preview.plan,
        run.asked.expected_plans,
        run_id=run.info.run_id,
        gated=run.environment(environment).protected,
    )
    refuse_unpromoted(
        run.settings,
        run.environment(environment),
        preview.target,
        preview.plan,
        run.progress,
        # Those before it in this run are up to date by now; a dry run only says that they would be.
        done=run.names[: run.names.index(environment)],
    )
    if preview.plan.steps and run.environment(environment).protected and not run.asked.dry_run:
        refuse_overtaking(run.settings, run.environment(environment), run.info, run.progress)
    run.plans[environment] = preview
    rename()


def planned(environment: str) -> Planned:
    """Return the plan that `plan` made. It is not the task's result: Prefect would draw arrows from what it returns."""
    run = current()
    made = run.plans[environment].plan
    return Planned(
        digest=made.digest,
        labels=tuple(step.label for step in made.steps),
        protected=run.environment(environment).protected,
    )


def begin(environment: str) -> EnvironmentResult:
    """Note that an environment's turn has come."""
    return current().results.setdefault(environment, EnvironmentResult(environment=environment))


def stop_if_held(environment: str) -> None:
    """Raise Held when the plan stopped before a version that was reverted on this environment."""
    preview = current().plans[environment]
    refuse_held(preview.target, preview.plan)
