"""The SQL that records a migration: rows of ledger and audit log, as text that travels inside the messages.

Their values are escaped literals. None of them holds a secret: settings never appear in a row.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.abc import AdaptContext

from lockstep import __version__
from lockstep.core.ledger import Progress
from lockstep.postgres.connection import Target

if TYPE_CHECKING:
    from lockstep.core.planner import Step
    from lockstep.core.reverting import RevertStep
    from lockstep.postgres.watch import Waited

#: Transactions of a file outside of one that are kept with its progress, for what dates changes (postgres.dating).
MOST_XIDS = 1_000

#: Milliseconds since the transaction began, as the server sees it. Of one in the middle of a message the server's own
#: transaction_timestamp() is the message's begin; postgres.message notes when the one before was over.
ELAPSED = (
    "((pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) - GREATEST(pg_catalog.date_part('epoch', "
    "pg_catalog.transaction_timestamp()), NULLIF(pg_catalog.current_setting('lockstep_session.began', true), '')"
    "::pg_catalog.float8)) * 1000)::pg_catalog.int8"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Who runs: what ledger and audit rows record."""

    run_id: str
    orchestrator_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scribe:
    """Writes the rows of one run on one target."""

    target: Target
    run: RunInfo
    context: AdaptContext

    # -- applying ------------------------------------------------------------------------------------------------------

    def applied(
        self,
        step: Step,
        statements: int,
        waited: Waited | None = None,
        rehearsed: Mapping[str, object] | None = None,
        proof: Mapping[str, object] | None = None,
    ) -> tuple[str, ...]:
        """A transactional file is applied: its entry, complete, and its event, with what its rehearsal was.

        `proof`: of its way back (core.rehearsal.stored).
        """
        row = self._row(step, proof) | {"statements_done": statements, "statements_total": statements}
        return self._upsert(step, row, "applied", ELAPSED), self._applied_event(step, waited, rehearsed)

    def begun(self, step: Step, statements: int, proof: Mapping[str, object] | None = None) -> tuple[str, ...]:
        """A file outside of a transaction begins (or goes on): its entry says so before anything of it runs."""
        row = self._row(step, proof)
        if step.resume is not None:
            row |= {"statements_total": statements}
            if not step.resume.units and not step.resume.batches:
                row |= {"statements_done": 0, "progress": self._progress(step.resume)}
            changes = ", ".join(f"{name} = {self._literal(value)}" for name, value in row.items())
            return self._one(
                # The file may have been renamed since it was begun.
                f"UPDATE {self._ledger} SET {changes}, state = 'started' {self._where(step.begun_as or step.name)}"
            ), self._event("resume", step.name, step.migration.version, {"checksum": step.checksum})
        fresh = Progress(backfill=step.migration.up.directives.repeat_until_empty)
        progress = {"statements_done": 0, "statements_total": statements, "progress": self._progress(fresh)}
        return self._upsert(step, row | progress, "started", "0"), self._event(
            "start", step.name, step.migration.version, {"checksum": step.checksum}
        )

    def finished(self, step: Step, details: Mapping[str, object]) -> tuple[str, ...]:
        """A file outside of a transaction is applied whole."""
        done = self._one(
            f"UPDATE {self._ledger} SET state = 'applied', progress = NULL, statements_done = statements_total, "
            f"applied_at = pg_catalog.clock_timestamp(), applied_by = current_user {self._where(step.name)}"
        )
        took = f"(SELECT execution_time_ms FROM {self._ledger} {self._where(step.name)})"
        more = {"checksum": step.checksum, "again": step.again, **details}
        # The event comes first: the entry lets go of what it made.
        return self._event("apply", step.name, step.migration.version, more, took, made=True), done

    # -- reverting -----------------------------------------------------------------------------------------------------

    def reverted(self, step: RevertStep, reason: str | None, waited: Waited | None = None) -> tuple[str, ...]:
        """The entry goes, the log keeps what it was."""
        name = self._literal(step.entry.name)
        # Division by the number of deleted rows: an entry that has gone meanwhile fails the transaction.
        gone = self._one(f"DELETE FROM {self._ledger} WHERE migration_name = {name}")
        # What repeatables put into the reverted objects may be gone with them: they run again at the next chance.
        anew = self._literal(self._progress(Progress()))
        again = (
            f"UPDATE {self._ledger} SET checksum = NULL, statements_done = CASE WHEN progress IS NULL THEN statements_done "
            "ELSE 0 END, progress = CASE WHEN progress IS NOT NULL THEN progress || "
            f"({anew}::pg_catalog.jsonb - 'backfill') END WHERE kind = 'repeatable'"
        )
        # What is held is what was applied; where an older tool recorded that, the file as it stands is the next best.
        of_file = step.up is not None and step.entry.content_digest is None
        details = {
            "checksum": step.up.checksum if of_file and step.up else step.entry.checksum,
            "content_digest": step.up.content_digest if of_file and step.up else step.entry.content_digest,
            "recorded_checksum": step.entry.checksum,
            "down_checksum": step.down.checksum,
            "source": step.source,
            "reason": reason,
            **(waited.details if waited else {}),
        }
        # The event comes first: it keeps what goes with the entry.
        in_units = not step.down.transactional
        event = self._event("revert", step.entry.name, step.entry.version, details, made=in_units)
        return event, gone, again

    def revert_begun(self, step: RevertStep, statements: int) -> tuple[str, ...]:
        """A down outside of a transaction begins (or goes on)."""
        run = f"run_id = {self._literal(self.run.run_id)}, tool_version = {self._literal(__version__)}"
        where = self._where(step.entry.name)
        details = {"down_checksum": step.down.checksum, "revert": True}
        if step.resume is not None:
            text = f"UPDATE {self._ledger} SET state = 'started', statements_total = {statements}, {run} {where}"
            return self._one(text), self._event("resume", step.entry.name, step.entry.version, details)
        progress = self._literal(
            self._progress(Progress(reverting=True, backfill=step.down.directives.repeat_until_empty))
        )
        text = (
            f"UPDATE {self._ledger} SET state = 'started', statements_done = 0, statements_total = {statements}, "
            f"progress = {progress}, {run} {where}"
        )
        return self._one(text), self._event("start", step.entry.name, step.entry.version, details)

    # -- on the way ----------------------------------------------------------------------------------------------------

    def progressed(
        self,
        name: str,
        progress: Progress,
        statements_done: int,
        ms: str = ELAPSED,
        *,
        in_here: bool = False,
        touches: tuple[str, str, str] | None = None,
    ) -> tuple[str, ...]:
        """How far a file outside of a transaction has come. `ms`: SQL of the milliseconds that are to be added.

        `in_here`: what the unit makes is made by this very transaction, whose number is kept. `touches`: what one that
        cannot be in a transaction is about to make or drop (core.rechecking.touched).
        """
        kept = _MADE
        if in_here:
            kept = kept.replace("progress->'xids'", _XIDS, 1)
        if touches:
            known = "coalesce(progress->'touches', '[]'::pg_catalog.jsonb)"
            more = f"{self._literal(json.dumps([list(touches)]))}::pg_catalog.jsonb"
            kept = kept.replace("progress->'touches'", f"{known} || {more}", 1)
        return (
            self._one(
                f"UPDATE {self._ledger} SET statements_done = {statements_done}, "
                f"progress = {self._literal(self._progress(progress))}::pg_catalog.jsonb || {kept}, "
                f"execution_time_ms = coalesce(execution_time_ms, 0) + {ms} {self._where(name)}"
            ),
        )

    def failed(self, name: str, progress: Progress) -> str:
        """A file outside of a transaction stopped with an error. One statement, outside of any message."""
        text = self._literal(self._progress(progress))
        kept = f"{text}::pg_catalog.jsonb || {_MADE}"
        return f"UPDATE {self._ledger} SET state = 'failed', progress = {kept} {self._where(name)}"

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _row(self, step: Step, proof: Mapping[str, object] | None) -> dict[str, object]:
        up, down = step.migration.up, step.migration.down
        return {
            "migration_name": step.name,
            "version": step.migration.version,
            "kind": step.migration.kind.value,
            "checksum": step.checksum,
            "content_digest": up.content_digest,
            "run_id": self.run.run_id,
            "tool_version": __version__,
            "down_script": down.text if down else None,
            "down_checksum": down.checksum if down else None,
            "revert_proof": json.dumps(proof) if proof is not None else None,
        }

    def _upsert(self, step: Step, row: Mapping[str, object], state: str, took: str) -> str:
        names = ", ".join(row)
        values = ", ".join(self._literal(value) for value in row.values())
        text = (
            f"INSERT INTO {self._ledger} ({names}, applied_at, applied_by, state, verified, execution_time_ms) "
            f"VALUES ({values}, pg_catalog.clock_timestamp(), current_user, '{state}', true, {took})"
        )
        if step.migration.version is None:
            updates = ", ".join(f"{name} = excluded.{name}" for name in row if name != "migration_name")
            text += (
                f" ON CONFLICT (migration_name) WHERE version IS NULL DO UPDATE SET {updates}, applied_at = excluded.applied_at,"
                " applied_by = excluded.applied_by, state = excluded.state, verified = true,"
                " execution_time_ms = excluded.execution_time_ms"
            )
        return self._one(text)

    def _one(self, change: str) -> str:
        """A change of exactly one row. Divides by their number: a row that something swallowed fails the transaction."""
        return f"WITH kept AS ({change} RETURNING 1) SELECT 1 / count(*) FROM kept"

    def _applied_event(self, step: Step, waited: Waited | None, rehearsed: Mapping[str, object] | None) -> str:
        details: dict[str, object] = {"checksum": step.checksum, "again": step.again}
        if rehearsed:
            details["rehearsed"] = rehearsed
        if waited:
            details |= waited.details
        return self._event("apply", step.name, step.migration.version, details)

    def _event(
        self,
        event: str,
        name: str,
        version: int | None,
        details: Mapping[str, object],
        took: str = ELAPSED,
        *,
        made: bool = False,
    ) -> str:
        """A row of the audit log. `made`: with what the entry's progress keeps of a file outside of a transaction."""
        table = sql.Identifier(self.target.ledger_schema, "schema_migrations_log").as_string(self.context)
        values = (event, socket.gethostname(), self.run.run_id, self.run.orchestrator_url, name, version)
        literals = ", ".join(self._literal(value) for value in values)
        shown = f"{self._literal(json.dumps(dict(details)))}::pg_catalog.jsonb"
        if made:
            shown += f" || coalesce((SELECT {_MADE} FROM {self._ledger} {self._where(name)}), '{{}}')"
        return (
            f"INSERT INTO {table} (event, host, run_id, orchestrator_url, migration_name, version, duration_ms, details) "
            f"VALUES ({literals}, {took}, {shown}) RETURNING duration_ms"
        )

    def _where(self, name: str) -> str:
        return f"WHERE migration_name = {self._literal(name)}"

    def _progress(self, progress: Progress) -> str:
        return json.dumps(asdict(progress))

    @property
    def _ledger(self) -> str:
        return sql.Identifier(self.target.ledger_schema, "schema_migrations").as_string(self.context)

    def _literal(self, value: object) -> str:
        # What psycopg makes of it, at a fifth of the cost: a row has twenty of them. Backslashes are left to libpq.
        if value is None:
            return "NULL"
        if type(value) is int and value >= 0:
            return str(value)
        if type(value) is str and "\\" not in value and "\0" not in value:
            return "'" + value.replace("'", "''") + "'"
        return sql.Literal(value).as_string(self.context)


#: What an entry's progress keeps beside the progress: the numbers of transactions, and what others made or dropped.
_MADE = "pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('xids', progress->'xids', 'touches', progress->'touches'))"
_XIDS = (
    f"CASE WHEN coalesce(pg_catalog.jsonb_array_length(progress->'xids'), 0) < {MOST_XIDS} "
    "THEN coalesce(progress->'xids', '[]'::pg_catalog.jsonb) || "
    "pg_catalog.to_jsonb(pg_catalog.xid(pg_catalog.pg_current_xact_id())::pg_catalog.text) ELSE progress->'xids' END"
)

_NO_PROGRESS = Progress()


def entry_progress(document: Mapping[str, object] | None) -> Progress | None:
    """Return the progress that an entry's column holds. Keys of a newer version are left out, and other types."""
    if document is None:
        return None
    known = {name: value for name, value in document.items() if name in Progress.__slots__}
    fields = {name: value for name, value in known.items() if type(value) is type(getattr(_NO_PROGRESS, name))}
    return Progress(**fields)  # type: ignore[arg-type]  # of the types that its defaults have
