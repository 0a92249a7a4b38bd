"""A revert tried on the backup that it takes first: the downs on a clone, what they lose, and whether they lead back.

They lead back when the ups run again to the very start, and when the schema is the one that was recorded before those
migrations were applied, where it was. One out of the middle is tried two ways, which must come to the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from lockstep.core.changes import Change, compare, exact_changes
from lockstep.core.comparison import Row, State
from lockstep.core.comparison import compare as compare_files
from lockstep.core.fingerprint import Fingerprint, Key
from lockstep.core.ledger import Ledger
from lockstep.core.migration import Folder, Kind
from lockstep.core.rehearsal.proof import Dropped, Loss, losses_text
from lockstep.core.rehearsal.trace import FileTrace
from lockstep.core.reverting import RevertStep
from lockstep.errors import MigrationFailed, PlanRefused
from lockstep.postgres.connection import Session, Target
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.fingerprint import read_live
from lockstep.postgres.ledger import read_ledger
from lockstep.postgres.states import read_intended, read_recorded, read_states
from lockstep.postgres.tracing import TracingWatch
from lockstep.service.applying import ApplyRun, open_apply
from lockstep.service.rehearsal.doubts import doubts_of_files
from lockstep.service.rehearsal.losses import dropped_by, held_in, looking, losses_of_downs
from lockstep.service.rehearsal.proofs import difference_lines, why
from lockstep.service.rehearsal.stage import TEMPLATE, Clone, Stage
from lockstep.service.reverting import RevertRun, open_revert

_LISTED = 5  # differences that one line names

#: What the entry of an applied migration says of its file: the same SQL.
SAME = frozenset({State.APPLIED, State.REFORMATTED, State.BASELINE})


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertTrial:
    """What came of it."""

    ms: float  # of all downs
    blocking_ms: float | None  # the longest that one kept others waiting
    losses: tuple[Loss, ...]
    problems: tuple[str, ...]  # why it is not proven, a line each; losses among them
    notes: tuple[str, ...] = ()  # what else is to be known
    drops: tuple[Dropped, ...] = ()  # what the downs drop, and was empty on the backup


def try_revert(
    stage: Stage, folder: Folder, run: RunInfo, steps: Sequence[RevertStep], *, newer: Collection[int] = ()
) -> RevertTrial:
    """Try a revert on clones of a stage. `newer`: versions that stay although one below them goes.

    Raises Unreachable, and what a server does that is no down's fault.
    """
    trial = _Trial(stage=stage, folder=folder, run=run, steps=tuple(steps), newer=frozenset(newer))
    trial.run_it()
    problems = [*trial.problems]
    if trial.losses:
        problems.append(f"it loses data: {losses_text(trial.losses)}")
    return RevertTrial(
        ms=sum(trace.ms for trace in trial.traces),
        blocking_ms=max((trace.worst.ms for trace in trial.traces if trace.worst), default=None),
        losses=trial.losses,
        problems=tuple(problems),
        notes=tuple(trial.notes),
        drops=trial.drops,
    )


@dataclass(slots=True, kw_only=True)
class _Trial:
    stage: Stage
    folder: Folder
    run: RunInfo
    steps: tuple[RevertStep, ...]
    newer: frozenset[int]
    traces: list[FileTrace] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    losses: tuple[Loss, ...] = ()
    drops: tuple[Dropped, ...] = ()
    applied: frozenset[int] = frozenset()  # versions of the ledger
    rows: tuple[Row, ...] = ()  # files against ledger, before anything

    @property
    def going(self) -> frozenset[int]:
        return frozenset(step.entry.version for step in self.steps if step.entry.version is not None)

    def run_it(self) -> None:
        clone = self.stage.clone()
        for doubt in doubts_of_files(clone, [step.down for step in self.steps]):
            self.problems.append(f"{doubt.file}:{doubt.line}: {doubt.message}")
        if self.problems:
            return
        with self._reverting(clone, self.going) as (reverting, watching):
            session = reverting.work.session
            ledger = read_ledger(session)
            self.applied = frozenset(e.version for e in ledger.entries if e.version is not None)
            self.rows = compare_files(self.folder, ledger, session.target.settings)
            start = read_live(session).fingerprint
            past = _recorded_before(session, ledger, start, self.going)
            for step in reverting.plan.steps:
                watching.begin_file(reverting.work.session, step.entry.name, step.down)
                try:
                    reverting.revert(step)
                except MigrationFailed as error:
                    self.problems.append(f"it fails: {why(error)}")
                    return
                self.traces.append(watching.end_file(reverting.work.session))
            end = read_live(reverting.work.session).fingerprint
        self.losses, notes, untold = losses_of_downs(self.stage, clone, self.traces, start, end)
        self.drops = self._empty(dropped_by(exact_changes(start, end)))
        self.notes += notes
        self.problems += [f"whether it loses data is not known: {one}" for one in untold]
        if self.newer:
            self._another_way(clone)
            return
        if past is not None:
            self._as_recorded(past, end)
        self._ups_again(clone, start, compared=past is not None)

    def _empty(self, drops: tuple[Dropped, ...]) -> tuple[Dropped, ...]:
        """Those of them that held nothing: what a down saved from the others it saves of later rows as well."""
        schema = self.stage.settings.project.ledger_schema
        with looking(self.stage.server.url(TEMPLATE)) as connection:
            return tuple(one for one in drops if held_in(connection, (one,), schema) == ())

    # -- what it leads to ----------------------------------------------------------------------------------------------

    def _as_recorded(self, past: _Past, end: Fingerprint) -> None:
        if past.differing(end) and any(row.version is None for row in self.rows):
            end, theirs = self._with_repeatables(end)
            past = replace(past, passed_over=past.passed_over | theirs)
        if changes := past.differing(end):
            self._differs("it leads elsewhere than where it came from", changes)

    def _with_repeatables(self, end: Fingerprint) -> tuple[Fingerprint, frozenset[Key]]:
        """Repeatables run again after a revert: on another clone, since here the ups come first."""
        other = self.stage.clone()
        try:
            with self._reverting(other, self.going) as (reverting, _):
                for step in reverting.plan.steps:
                    reverting.revert(step)
            with self._applying(other, self.applied - self.going, include=()) as applying:
                theirs = self._apply_all(applying)
                return read_live(applying.work.session).fingerprint, theirs
        except (MigrationFailed, PlanRefused):
            return end, frozenset()

    def _ups_again(self, clone: Clone, start: Fingerprint, *, compared: bool) -> None:
        other = [step.entry.name for step in self.steps if not self._is_same(step)]
        if other:
            text = f"{', '.join(other)} is not what was applied, so it could not be run again"
            (self.notes if compared else self.problems).append(text)
            return
        if any(step.resume is not None for step in self.steps):
            if not compared:
                self.problems.append("it was begun earlier, so what there was before it is not known")
            return
        try:
            with self._applying(clone, self.applied, include=self.going) as applying:
                theirs = self._apply_all(applying)
                again = read_live(applying.work.session).fingerprint
        except MigrationFailed as error:
            self.problems.append(f"the up does not run again after it: {why(error)}")
            return
        except PlanRefused as error:
            self.problems.append(f"the ups cannot be run again after it: {error.message.splitlines()[-1].strip()}")
            return
        if changes := [one for one in exact_changes(start, again) if one.key not in theirs]:
            self._differs("the ups after it lead elsewhere", changes)

    def _another_way(self, clone: Clone) -> None:
        """One out of the middle: all newer ones taken back, then it, then the newer ones applied again."""
        stay = self.applied - self.going
        same = {row.version for row in self.rows if row.state in SAME}
        if other := sorted(self.newer - same):
            text = ", ".join(map(str, other))
            self.problems.append(f"the files of {text} are not what was applied, so they could not be run without it")
            return
        try:
            with self._applying(clone, stay, include=()) as applying:
                self._apply_all(applying)
                alone = read_live(applying.work.session).fingerprint
        except (MigrationFailed, PlanRefused) as error:
            self.problems.append(f"what is left does not run again without it: {why(error)}")
            return
        together_on = self.stage.clone()
        try:
            with self._reverting(together_on, self.going | self.newer) as (reverting, _):
                for step in reverting.plan.steps:
                    reverting.revert(step)
            with self._applying(together_on, stay, include=self.newer) as applying:
                self._apply_all(applying)
                together = read_live(applying.work.session).fingerprint
        except PlanRefused as error:
            reasons = "; ".join(line.strip() for line in error.message.splitlines()[1:])
            self.problems.append(f"whether the newer ones can do without it cannot be tried: {reasons}")
            return
        except MigrationFailed as error:
            self.problems.append(f"the newer ones do not run without it: {why(error)}")
            return
        if changes := exact_changes(together, alone):
            self._differs("without it the newer ones lead elsewhere than its down does", changes)

    def _differs(self, what: str, changes: Sequence[Change]) -> None:
        lines = difference_lines(changes)
        more = f" and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
        self.problems.append(f"{what}: {'; '.join(lines[:_LISTED])}{more}")

    def _is_same(self, step: RevertStep) -> bool:
        return any(row.version == step.entry.version and row.state in SAME for row in self.rows)

    def _apply_all(self, applying: ApplyRun) -> frozenset[Key]:
        """Apply all steps. Returns what repeatables with other SQL than before changed."""
        changed = {row.name for row in self.rows if row.version is None and row.state not in SAME}
        theirs: set[Key] = set()
        for step in applying.plan.steps:
            if step.name not in changed:
                applying.apply(step)
                continue
            before = read_live(applying.work.session).fingerprint
            applying.apply(step)
            theirs |= {one.key for one in exact_changes(before, read_live(applying.work.session).fingerprint)}
        return frozenset(theirs)

    # -- sessions ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _reverting(self, clone: Clone, only: Collection[int]) -> Iterator[tuple[RevertRun, TracingWatch]]:
        watches: list[TracingWatch] = []

        def watch(target: Target, run_id: str) -> TracingWatch:
            watches.append(TracingWatch(target, run_id))
            return watches[-1]

        with open_revert(clone.settings, clone.environment, self.folder, self.run, only=only, watch=watch) as reverting:
            yield reverting, watches[0]

    @contextmanager
    def _applying(self, clone: Clone, versions: Collection[int], *, include: Collection[int]) -> Iterator[ApplyRun]:
        """Apply what is missing of some versions, and the repeatables; nothing that is pending."""
        kept = tuple(one for one in self.folder.migrations if one.version is None or one.version in versions)
        with open_apply(
            clone.settings, clone.environment, replace(self.folder, migrations=kept), self.run, include=include
        ) as applying:
            yield applying


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """The schema as it was recorded before some migrations were applied."""

    schema: Fingerprint
    passed_over: frozenset[Key]  # objects that were not as intended before the revert, either

    def differing(self, now: Fingerprint) -> tuple[Change, ...]:
        """Return what is not as it was. It went through a dump meanwhile, which prints some things anew."""
        return tuple(one for one in compare(self.schema, now).changes if one.key not in self.passed_over)


def _recorded_before(session: Session, ledger: Ledger, start: Fingerprint, going: frozenset[int]) -> _Past | None:
    """Find the recorded state in which all was applied that is applied now, but for the versions that go.

    None where there is none: they were applied in one run with others, or too long ago, or somebody else had a hand in.
    """
    now = read_recorded(session)
    if now.state is None or now.is_stale:
        return None
    intended = read_intended(session, now.state)
    if intended is None:
        return None
    names = {entry.version: entry.name for entry in ledger.entries if entry.version in going}
    wanted = {e.name for e in ledger.entries if e.kind is not Kind.REPEATABLE} - set(names.values())
    current = {e.name for e in ledger.entries if e.kind is not Kind.REPEATABLE}
    repeatables = {e.name for e in ledger.entries if e.kind is Kind.REPEATABLE}
    states = read_states(session)
    for index, (state, ran) in enumerate(states[:-1]):
        if state.event != "run" or any(one.name in repeatables for one in ran):
            return None
        for one in ran:
            current = current - {one.name} if one.action == "applied" else current | {one.name}
        if current == wanted:
            schema = read_intended(session, states[index + 1][0])
            if schema is None:
                return None
            drifted = frozenset(change.key for change in compare(intended, start).changes)
            return _Past(schema=schema, passed_over=drifted)
    return None
