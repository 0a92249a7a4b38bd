"""The restore flow. Defines nothing but the flow: Prefect loads this file under a name of its own."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.backups import restore_backup
from tasks.boundary import Ending
from tasks.run import opened, project_of
from tasks.stopping import on_cancellation, on_crashed


@flow(
    name="restore",
    flow_run_name="restore {backup} into {into}",
    persist_result=False,
    on_cancellation=[on_cancellation],
    on_crashed=[on_crashed],
)
def restore(
    backup: str,
    into: str,
    of: str | None = None,
    replace: bool = False,
    confirm: str | None = None,
    project: str | None = None,
) -> State[None]:
    """Restore a backup into an environment's database: an empty one, or, said twice, in the place of a living one.

    The copy is compared with what was backed up before it counts. A database that is replaced is kept, closed to
    connections, under another name.

    Args:
        backup: An id of `lockstep backups list`, latest, before:RUN (as that run found it), or a time in UTC.
        into: The environment of lockstep.toml whose database is restored.
        of: Whose backup, where it is another environment's.
        replace: Also when the database is not empty. Then `confirm` must be its name.
        confirm: The name of the database that is to be replaced.
        project: The folder with lockstep.toml, where it is not the one that this flow lies in.
    """
    with Ending() as end, opened(project_of(__file__, project), [into], files=False):
        end.done(restore_backup(into, backup, of, replace, confirm))
    return end.state
