"""`explain`: one run, out of every place that knows of it. Read-only; what cannot be looked at is named, never waited for.

The audit logs and ledgers of all environments, the bucket (for the measured ways back) and Prefect (for whether it is
still alive). Neither a bucket nor Prefect is needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from uuid import UUID

from lockstep.config import Environment, Settings
from lockstep.core.explanation import Explanation, Orchestrated
from lockstep.core.migration import Folder
from lockstep.errors import LockstepError, UsageError
from lockstep.postgres.audit import newest_run, run_of_url
from lockstep.postgres.connection import open_session
from lockstep.service.deploying import run_id_of
from lockstep.service.prefectapi import Missing, PrefectApi, configured_server
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id
from lockstep.service.tracing import Traced, trace
from lockstep.service.waysback import measured

_RUN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


def explain(settings: Settings, folder: Folder | None, run: str | None) -> Explanation:
    """Explain a run: our id, a flow run's id or its address in the UI; None: the newest one that any log knows.

    `folder`: the project's files; None: they cannot be read. Raises UsageError when no place knows the run, and
    Unreachable when no environment could be asked.
    """
    unseen: list[str] = []
    run_id, flow_run = _meant(run)
    environments = tuple(settings.environments.values())
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="explain") as pool:
        if run_id is None:
            looked = list(pool.map(lambda one: _find(settings, one, flow_run), environments))
            known = [one for one in looked if not isinstance(one, LockstepError) and one is not None]
            run_id = max(known, key=lambda one: one[1])[0] if known else None
            if run_id is None and flow_run is None:
                raise _unknown(run, [one for one in looked if isinstance(one, LockstepError)], len(environments))
        traced = _traced(pool, settings, environments, folder, run_id)
        flow_run = flow_run or next((match[0] for one in traced if (match := _UUID.search(one.url or ""))), None)
        orchestrated, api = _ask_prefect(flow_run, unseen)
        if run_id is None and orchestrated is not None:  # it stopped before any database was changed
            run_id = orchestrated.run_id
            traced = _traced(pool, settings, environments, folder, run_id)
    if run_id is None or not (orchestrated or any(one.place.touched for one in traced)):
        raise _unknown(run, [one.error for one in traced if one.error], len(environments))
    unseen += [f"{one.place.environment}: {one.place.error.splitlines()[0]}" for one in traced if one.place.error]
    if folder is None:
        unseen.append("the migration files, which cannot be read (lockstep validate): pending ones are not known")
    return Explanation(
        run_id=run_id,
        newest=run is None,
        places=tuple(measured(settings, one, unseen) for one in traced),
        orchestrated=orchestrated.seen if orchestrated else None,
        url=next((one.url for one in traced if one.url), None) or _ui(api, flow_run),
        by=_starters(traced),
        unseen=tuple(unseen),
        contacts=tuple(settings.project.contacts),
        runbook=settings.project.runbook,
    )


def _meant(run: str | None) -> tuple[str | None, str | None]:
    """Return our id, or Prefect's. Raises UsageError for what is neither."""
    if run is None:
        return None, None
    if match := _UUID.search(run):
        return None, match[0].lower()
    if match := _RUN.search(run):
        return match[0], None
    raise UsageError(
        f"'{run[:60]}' is no run: its id is like 20261123-052152-9f67, or that of a flow run, or its address in the UI",
        hint="lockstep explain, without a run, explains the newest one; lockstep history lists them",
    )


def _find(
    settings: Settings, environment: Environment, flow_run: str | None
) -> tuple[str, datetime] | LockstepError | None:
    """The run of a flow run by one environment's log, or its newest run; with the time of its last event."""
    try:
        session = open_session(
            target_of(settings, environment, with_settings=False), run_id=new_run_id(), read_only=True
        )
        try:
            return newest_run(session) if flow_run is None else run_of_url(session, flow_run)
        finally:
            session.close()
    except LockstepError as error:
        return error


def _traced(
    pool: ThreadPoolExecutor,
    settings: Settings,
    environments: Sequence[Environment],
    folder: Folder | None,
    run_id: str | None,
) -> list[Traced]:
    if run_id is None:
        return []
    return list(pool.map(lambda one: trace(settings, one, folder, run_id), environments))


def _unknown(run: str | None, errors: Sequence[LockstepError], environments: int) -> LockstepError:
    """Why nothing can be explained: nobody knows the run, or nobody could be asked."""
    if errors and len(errors) == environments:
        return errors[0]
    unread = f" ({len(errors)} of {environments} could not be asked)" if errors else ""
    what = f"no environment's audit log knows the run {run}" if run else "no environment's audit log knows any run"
    return UsageError(f"{what}{unread}", hint="lockstep history lists the runs that there are")


def _starters(traced: Sequence[Traced]) -> tuple[str, ...]:
    """Who started it: as the log says, else whose role wrote its first event, on which machine."""
    said = [by for one in traced for by in one.started_by]
    return tuple(dict.fromkeys(said or [by for one in traced for by in one.first_by]))


# -- Prefect -------------------------------------------------------------------------------------------------------


class _FlowRun:
    """A flow run as its API has it."""

    def __init__(self, document: dict[str, Any]) -> None:
        state = document.get("state") or {}
        parameters = document.get("parameters") or {}
        self.run_id = run_id_of(datetime.fromisoformat(document["created"]), UUID(document["id"]))
        self.seen = Orchestrated(
            id=str(document["id"]),
            name=str(document.get("name") or ""),
            state=str(state.get("name") or "unknown"),
            kind=str(state.get("type") or "UNKNOWN"),
            message=state.get("message"),
            at=datetime.fromisoformat(state["timestamp"]) if state.get("timestamp") else None,
            deployment=document.get("deployment_id") is not None,
            reason=parameters.get("reason"),
            asked_for=_asked_for(parameters),
        )


def _asked_for(parameters: dict[str, Any]) -> tuple[str, ...]:
    """The environments that a run was started for; () for all."""
    if isinstance(one := parameters.get("environment"), str):  # of a revert
        return (one,)
    named = parameters.get("environments") or [key for key in parameters.get("expected_plans") or {} if "/" not in key]
    return tuple(str(name) for name in named)


def _ask_prefect(flow_run: str | None, unseen: list[str]) -> tuple[_FlowRun | None, PrefectApi | None]:
    if flow_run is None:
        return None, None
    try:
        api = configured_server()
        if api is None:
            unseen.append("Prefect: no server is configured here (PREFECT_API_URL)")
            return None, None
        return _FlowRun(api.get(f"/flow_runs/{flow_run}")), api
    except Missing:
        unseen.append("Prefect: its server does not know the run, or not any more")
    except LockstepError as error:
        unseen.append(f"Prefect: {error.message}")
    except (KeyError, TypeError, ValueError):
        unseen.append("Prefect: what its server answered is no flow run")
    return None, None


def _ui(api: PrefectApi | None, flow_run: str | None) -> str | None:
    if api is None or flow_run is None:
        return None
    return f"{api.shown.removesuffix('/api')}/runs/flow-run/{flow_run}"
