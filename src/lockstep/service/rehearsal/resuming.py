"""Trial C: files outside of a transaction, each cut off half-way once and gone on with, as after a lost connection.

The end must be trial A's: the same schema, and as many rows in the tables that the plan writes to. What stops and asks
for a repair by design, a CALL or DO that commits by itself, is told and not cut off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import psycopg

from lockstep.core.changes import exact_changes
from lockstep.core.fingerprint import Fingerprint
from lockstep.core.migration import Folder
from lockstep.core.planner import Step
from lockstep.core.rechecking import stays_in_doubt
from lockstep.core.rehearsal.verdict import Note, Outcome, Problem
from lockstep.core.units import Unit, UnitKind
from lockstep.errors import LedgerError, MigrationFailed, PlanRefused, Unreachable
from lockstep.postgres.connection import Session, Target
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.fingerprint import read_live
from lockstep.postgres.holdings import read_holdings, read_tables
from lockstep.postgres.message import Part
from lockstep.postgres.watch import Watch
from lockstep.service.applying import open_apply
from lockstep.service.rehearsal.losses import looking, traced_relations
from lockstep.service.rehearsal.proofs import difference_lines, why
from lockstep.service.rehearsal.stage import Clone, Stage
from lockstep.service.rehearsal.trials import Tried

RULE = "resume-differs"
_LISTED = 3  # differences that a message names
_END_SECONDS = 10  # for a backend to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What trial C gave."""

    problems: tuple[Problem, ...] = ()
    notes: tuple[Note, ...] = ()
    cut: tuple[str, ...] = ()  # files that were cut off


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """Where a file is cut off."""

    unit: Unit
    batch: int  # of a backfill, from 1


def resume_halfway(
    stage: Stage,
    tried: Tried,
    folder: Folder,
    run: RunInfo,
    *,
    to_version: int | None = None,
    include: Iterable[int] = (),
) -> Resumed:
    """Cut each file outside of a transaction off half-way, on a clone, and go on with it.

    Call it while trial A's clone is as the plan left it. `to_version` and `include` are those of the plan. Raises
    Unreachable when the clone's server is lost.
    """
    steps = [step for step in tried.plan.steps if not step.migration.up.transactional]
    if not steps or tried.error is not None or tried.held is not None:
        return Resumed()
    notes: list[Note] = []
    cuts: dict[str, _Cut] = {}
    for step in steps:
        notes += _asking(step)
        if (cut := _cut_of(step, tried)) is not None:
            cuts[step.name] = cut
    if not cuts:
        return Resumed(notes=tuple(notes))
    clone = stage.clone()
    cut_off: list[str] = []
    try:
        problem, end = _run(clone, folder, run, cuts, cut_off, to_version=to_version, include=tuple(include))
        if problem is None and end is not None:
            problem = _differing(tried, end, clone, cut_off)
    finally:
        stage.drop(clone)
    return Resumed(problems=(problem,) if problem else (), notes=tuple(notes), cut=tuple(cut_off))


def _run(
    clone: Clone,
    folder: Folder,
    run: RunInfo,
    cuts: Mapping[str, _Cut],
    cut_off: list[str],
    *,
    to_version: int | None,
    include: tuple[int, ...],
) -> tuple[Problem | None, Fingerprint | None]:
    """Run the plan, again after each cut. Returns why it does not go on, or the schema at its end."""
    at: str | None = None
    while True:
        watches: list[_Killer] = []

        def watch(target: Target, run_id: str, made: list[_Killer] = watches) -> _Killer:
            made.append(_Killer(target, run_id, clone.admin))
            return made[-1]

        try:
            with open_apply(
                clone.settings,
                clone.environment,
                folder,
                run,
                to_version=to_version,
                include=include,
                watch=watch,
            ) as applying:
                killer = watches[0]
                for step in applying.plan.steps:
                    at = step.name
                    killer.cut = None if step.name in cut_off else cuts.get(step.name)
                    applying.apply(step)
                    killer.cut = None
                return None, read_live(applying.work.session).fingerprint
        except Unreachable:
            if not watches or not watches[0].killed or at is None:
                raise
            cut_off.append(at)
        except (MigrationFailed, PlanRefused, LedgerError) as error:
            if not cut_off:
                raise
            lines = error.message.splitlines()
            reason = why(error) if isinstance(error, MigrationFailed) else lines[-1].strip()
            return _problem(cut_off, f"does not go on: {reason}", file=cut_off[-1]), None
        finally:
            for one in watches:
                one.release()


def _differing(tried: Tried, end: Fingerprint, clone: Clone, cut_off: list[str]) -> Problem | None:
    if changes := exact_changes(tried.states[-1], end):
        lines = difference_lines(changes)
        more = f" and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
        return _problem(cut_off, f"comes to another schema: {'; '.join(lines[:_LISTED])}{more}")
    relations = frozenset().union(*(traced_relations(trace) for trace in tried.files))
    whole, resumed = (_rows(one, relations) for one in (tried.clone, clone))
    for name in sorted(whole.keys() | resumed.keys()):
        if whole.get(name) != resumed.get(name):
            rows = f"{resumed.get(name, 0):,} rows instead of {whole.get(name, 0):,}"
            return _problem(cut_off, f"leaves {rows} in {name}")
    return None


def _problem(cut_off: list[str], what: str, *, file: str | None = None) -> Problem:
    """Where several were cut off, nobody knows which one it is."""
    return Problem(
        outcome=Outcome.FAILED,
        rule=RULE,
        message=f"cut off half-way and gone on with, it {what}",
        file=file or (cut_off[0] if len(cut_off) == 1 else None),
        advice="write it so that running a part of it again changes nothing, or put what belongs together into one "
        "BEGIN … COMMIT block",
    )


def _rows(clone: Clone, relations: Iterable[str]) -> dict[str, int]:
    with looking(clone.admin) as connection:
        tables = read_tables(connection, relations, ledger_schema=clone.settings.project.ledger_schema)
        return {name: one.rows for name, one in read_holdings(connection, tables, sums=False).items()}


# -- where a file is cut off -------------------------------------------------------------------------------------------


def _cut_of(step: Step, tried: Tried) -> _Cut | None:
    """The unit in the middle of those that can be cut off; None: there is none."""
    up = step.migration.up
    script = up.script()
    done = step.resume.units if step.resume else 0
    units = [
        unit
        for unit in up.units()[done:]
        if unit.kind is not UnitKind.ALONE or not stays_in_doubt(unit.recheck(script))
    ]
    if not units:
        return None
    trace = next((one for one in tried.files if one.name == step.name), None)
    batches = max((one.batches for one in trace.statements), default=1) if trace else 1
    # Of several units one that stands alone is where most can go wrong.
    middle = sorted(units, key=lambda unit: abs(units.index(unit) - len(units) // 2))
    chosen = next((unit for unit in middle if unit.kind is UnitKind.ALONE), middle[0])
    return _Cut(unit=chosen, batch=max(1, batches // 2))


def _asking(step: Step) -> Iterable[Note]:
    script = step.migration.up.script()
    for unit in step.migration.up.units():
        if unit.kind is UnitKind.ALONE and stays_in_doubt(unit.recheck(script)):
            yield Note(
                message="cut off in the middle of this statement, a run would stop and ask for a repair: it commits by "
                "itself, so nobody can tell what it did",
                file=step.name,
                line=unit.line,
            )


class _Killer(Watch):
    """Ends the work session's backend in the middle of one unit of a file: as a lost connection, or a crash, would."""

    apart = True
    cut: _Cut | None = None
    killed = False

    def __init__(self, target: Target, run_id: str, admin: str) -> None:
        super().__init__(target, run_id)
        self._admin = admin
        self._inside = False  # its statement is on its way, or its transaction is
        self._batches = 0
        self._old: psycopg.Connection | None = None  # keeps an old snapshot, so that CONCURRENTLY waits half-way

    def before(self, part: Part) -> None:
        if self.cut is None or self.killed:
            return
        unit = self.cut.unit
        segment = next((one for one in part.segments if not one.verifies and not one.replays), None)
        if segment is not None and unit.first <= segment.first < unit.first + unit.count:
            self._batches += unit.kind is UnitKind.BATCHES
            self._inside = unit.kind is not UnitKind.BATCHES or self._batches == self.cut.batch
            if self._inside and unit.kind is UnitKind.ALONE:
                self._old = psycopg.connect(self._admin)
                self._old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                self._old.execute("SELECT 1")
        if self._inside and part.to_commit is not None:
            self._kill()  # with its transaction open

    def look(self) -> None:
        """While a statement that stands alone runs: ended as soon as it waits for the old snapshot."""
        if self._old is None or self.killed:
            return
        with psycopg.connect(self._admin, autocommit=True) as admin:
            waits = admin.execute(
                "SELECT FROM pg_catalog.pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", (self._pid,)
            ).fetchone()
        if waits is not None:
            self._kill()

    def after(self, session: Session, part: Part) -> None:
        # It did not wait, and is done: ended before anybody could say so.
        if self._old is not None and not self.killed and part.segments:
            self._kill()

    def release(self) -> None:
        """Let go of what keeps others waiting."""
        if self._old is not None:
            self._old.close()
            self._old = None

    def _kill(self) -> None:
        self.killed = True
        with psycopg.connect(self._admin, autocommit=True) as admin:
            admin.execute("SELECT pg_catalog.pg_terminate_backend(%s, %s)", (self._pid, _END_SECONDS * 1_000))
        with suppress(psycopg.Error):
            self.release()
