"""Trial B: the way back of each migration, on a clone: its down by the real engine, compared; then the ups again.

Downs run newest first. One that fails, or that is not there, hides no other: the next one runs on a fresh clone. What
the way back loses is counted on the copy (service.rehearsal.losses).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from lockstep.core.changes import Action, Change, exact_changes
from lockstep.core.drift import grouped
from lockstep.core.fingerprint import Fingerprint, Key
from lockstep.core.migration import Folder
from lockstep.core.planner import Step
from lockstep.core.rehearsal.proof import RevertProof, Standing
from lockstep.core.rehearsal.trace import FileTrace
from lockstep.core.rehearsal.violation_words import in_authors_words
from lockstep.core.reverting import RevertStep
from lockstep.errors import LockstepError, MigrationFailed, MigrationFileError, PlanRefused, Unreachable
from lockstep.postgres.connection import Target
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.fingerprint import read_live
from lockstep.postgres.tracing import TracingWatch
from lockstep.service.applying import ApplyRun, open_apply
from lockstep.service.rehearsal.losses import Before, Losses, counted_before, losses_of, written_relations
from lockstep.service.rehearsal.stage import Clone, Stage
from lockstep.service.rehearsal.trials import Tried
from lockstep.service.reverting import RevertRun, open_revert

#: Clones that are made because a down failed or is missing; what is left then is *not tried*.
FRESH = 16


def prove(
    stage: Stage,
    tried: Tried,
    folder: Folder,
    run: RunInfo,
    *,
    to_version: int | None = None,
    include: Iterable[int] = (),
    doubtful: Mapping[str, str] | None = None,
) -> tuple[RevertProof, ...]:
    """Prove the way back of each versioned migration of a plan that was tried, in the plan's order.

    `doubtful` are migrations whose down is not to be run on a copy, and why.

    Trial A's clone stays as it is. `to_version` and `include` are
    those of the plan. Raises Unreachable, and what a server does that is no down's fault.
    """
    steps = tuple(step for step in tried.plan.steps if step.migration.version is not None)
    if tried.error is not None or tried.held is not None:
        why = f"the plan stops at {tried.plan.steps[len(tried.files)].name}"
        return tuple(_untriable(step) or _proof(step, Standing.UNTRIED, reason=why) for step in steps)
    trial = _Trial(
        stage=stage,
        tried=tried,
        folder=folder,
        run=run,
        to_version=to_version,
        include=frozenset(include),
        steps=steps,
        doubtful=doubtful or {},
        before=Before(
            stage=stage,
            tried=tried,
            folder=folder,
            run=run,
            include=frozenset(include),
            to_version=to_version,
            written=written_relations(tried.clone),
        ),
    )
    return trial.prove()


@dataclass(slots=True, kw_only=True)
class _Chain:
    """A clone on its way back."""

    clone: Clone
    top: int  # migrations of the plan that it had when it began
    at: int  # that it has now
    repeatables: bool  # those of the plan ran on it
    sound: bool = True  # False: a script left it in the middle of something
    exact: bool = True  # False: after a down there is not what there was before its up


@dataclass(slots=True, kw_only=True)
class _Trial:
    stage: Stage
    tried: Tried
    folder: Folder
    run: RunInfo
    to_version: int | None
    include: frozenset[int]
    steps: tuple[Step, ...]  # versioned ones; number i leads from states[i] to states[i + 1]
    before: Before
    doubtful: Mapping[str, str]
    proofs: dict[int, RevertProof] = field(default_factory=dict)
    fresh: int = 0  # clones made

    def prove(self) -> tuple[RevertProof, ...]:
        for number, step in enumerate(self.steps):
            if (found := _untriable(step)) is not None:
                self.proofs[number] = found
            elif step.name in self.doubtful:
                self.proofs[number] = _proof(step, Standing.UNTRIED, reason=self.doubtful[step.name])
        count = len(self.steps)
        chain: _Chain | None = None
        if len(self.proofs) < count:
            clone = self.stage.clone(self.tried.clone.name)
            chain = _Chain(clone=clone, top=count, at=count, repeatables=True)
        number = count - 1
        while number >= 0:
            if number in self.proofs:
                number -= 1
                continue
            if chain is None or chain.at != number + 1:
                self._and_again(chain)
                chain = self._fresh(number + 1)
            if chain is None:
                reason = "no clone that has what comes before it, and nothing else, could be made"
                self.proofs[number] = _proof(self.steps[number], Standing.UNTRIED, reason=reason)
                number -= 1
                continue
            last = number
            while last - 1 >= 0 and last - 1 not in self.proofs:
                last -= 1
            number = self._back(chain, range(number, last - 1, -1)) - 1
            if not chain.sound or not chain.exact or chain.at != number + 1:
                self._and_again(chain)
                chain = None
        self._and_again(chain)
        return tuple(self.proofs[number] for number in range(count))

    # -- the downs -----------------------------------------------------------------------------------------------------

    def _back(self, chain: _Chain, numbers: Sequence[int]) -> int:
        """Run downs until one is no proof, or all are done. Returns the number of the last one that was tried."""
        number = numbers[0]
        with self._reverting(chain.clone, [self.steps[number] for number in numbers]) as (reverting, watching):
            for number, step in zip(numbers, reverting.plan.steps, strict=True):
                counted = counted_before(chain.clone, self.before.changes(number))
                watching.begin_file(reverting.work.session, step.entry.name, step.down)
                try:
                    reverting.revert(step)
                except MigrationFailed as error:
                    self.proofs[number] = self._failed(number, error, step)
                    # One transaction was rolled back; of any other something stays.
                    chain.sound = step.down.transactional
                    return number
                trace = watching.end_file(reverting.work.session)
                chain.at = number
                after = read_live(reverting.work.session).fingerprint
                resumed = self.steps[number].resume is not None  # there is nothing to compare it with
                differs = () if resumed else self._differing(self.tried.states[number], after, chain)
                found = losses_of(counted, chain.clone, self.before, number, trace, after)
                self.proofs[number] = self._judged(number, step, trace, differs, found)
                if differs or not found.exact:
                    # The next one must not be blamed for what this one left, or lost.
                    chain.exact = False
                    break
        if self.proofs[number].standing is Standing.DIFFERS:
            self._with_repeatables(chain, number)
        return number

    def _with_repeatables(self, chain: _Chain, number: int) -> None:
        """Repeatables run again after a revert: what comes back with them was not lost by the down.

        In earnest they do so after the ups, so the chain is not to go on with.
        """
        going = {step.migration.version for step in self.steps[number:]}
        waiting = {row.version for row in self.tried.plan.rows if row.entry is None and row.version is not None}
        done = {step.migration.version for step in self.steps[:number]}
        kept = tuple(
            one for one in self.folder.migrations if one.version is None or one.version not in (going | waiting) - done
        )
        if all(one.version is not None for one in kept):
            return
        chain.sound = False
        try:
            with self._applying(chain.clone, replace(self.folder, migrations=kept), to_version=None) as applying:
                for step in applying.plan.steps:
                    applying.apply(step)
                after = read_live(applying.work.session).fingerprint
        except (MigrationFailed, PlanRefused):
            return
        differs = self._differing(self.tried.states[number], after, chain)
        proof = self.proofs[number]
        standing = _standing(differs=bool(differs), loses=bool(proof.losses), known=proof.reason is None)
        self.proofs[number] = replace(proof, standing=standing, differs=difference_lines(differs))

    def _differing(self, expected: Fingerprint, found: Fingerprint, chain: _Chain) -> tuple[Change, ...]:
        """Return what is not as it was, without what the plan's repeatables made, which have no way back of their own."""
        changes = exact_changes(expected, found)
        if not chain.repeatables:
            return changes
        theirs = self._theirs
        return tuple(one for one in changes if one.key not in theirs)

    @property
    def _theirs(self) -> frozenset[Key]:
        states = self.tried.states
        return frozenset(
            change.key
            for number in range(len(self.steps), len(states) - 1)
            for change in exact_changes(states[number], states[number + 1])
        )

    def _judged(
        self, number: int, step: RevertStep, trace: FileTrace, differs: tuple[Change, ...], found: Losses
    ) -> RevertProof:
        proof = replace(
            _proof(self.steps[number], Standing.PROVEN, down=step.down.checksum),
            drops=found.drops,
            ms=trace.ms,
            blocking_ms=trace.worst.ms if trace.worst else None,
        )
        if self.steps[number].resume is not None:
            # The copy has the first part of it already: what there was before, nobody can say.
            reason = "it was begun before the backup was taken, so what was there before it is not known"
            return replace(proof, standing=Standing.UNTRIED, reason=reason)
        return replace(
            proof,
            standing=_standing(differs=bool(differs), loses=bool(found.losses), known=not found.untold),
            reason="; ".join(found.untold) or None,
            differs=difference_lines(differs),
            losses=found.losses,
            notes=found.notes,
        )

    def _failed(self, number: int, error: MigrationFailed, step: RevertStep) -> RevertProof:
        return _proof(self.steps[number], Standing.FAILED, reason=why(error), down=step.down.checksum)

    # -- the ups again -------------------------------------------------------------------------------------------------

    def _and_again(self, chain: _Chain | None) -> None:
        """Apply again what was taken back on a chain: the same end as before, or the proof is none. The chain is gone then."""
        if chain is None:
            return
        if chain.at == chain.top:
            self.stage.drop(chain.clone)
            return
        first = chain.at
        while first < chain.top:
            if not chain.sound or chain.at != first:
                self.stage.drop(chain.clone)
                rest = self._taken_back(chain, first)
                if rest is None:
                    for number in range(first, chain.top):
                        self._note(number, "whether its up runs again after it was not tried")
                    return
                chain = rest
            first = self._up(chain, first)
        self.stage.drop(chain.clone)

    def _up(self, chain: _Chain, first: int) -> int:
        """Apply from a number on. Returns the number to go on from when one was in the way, else the end."""
        whole = chain.top == len(self.steps)
        to_version = self.to_version if whole else self.steps[chain.top - 1].migration.version
        number = first
        try:
            with self._applying(chain.clone, self.folder, to_version=to_version) as applying:
                for step in applying.plan.steps:
                    again = step.migration.version is not None
                    applying.apply(step)
                    if again:
                        after = read_live(applying.work.session).fingerprint
                        differs = self._differing(self.tried.states[number + 1], after, chain)
                        number += 1
                        if differs:
                            self._not_the_same(number - 1, differs)
                            chain.sound = False
                            return number
                after = read_live(applying.work.session).fingerprint
        except MigrationFailed as error:
            chain.sound = False
            if number < chain.top:
                self._not_again(number, f"the up does not run again after it: {why(error)}")
                return number + 1
            for each in range(first, chain.top):
                self._not_again(each, f"a repeatable does not run again after it: {why(error)}")
            return chain.top
        except PlanRefused as error:
            chain.sound = False
            for each in range(first, chain.top):
                self._not_again(each, f"the up does not run again after it: {error.message.splitlines()[-1].strip()}")
            return chain.top
        if chain.repeatables and (differs := exact_changes(self.tried.states[-1], after)):
            self._not_the_same(first, differs)
        return chain.top

    def _taken_back(self, chain: _Chain, first: int) -> _Chain | None:
        """Make a fresh clone, and take back on it what a chain's downs took back, down to a number."""
        made = self._fresh(chain.top)
        if made is None:
            return None
        try:
            with self._reverting(
                made.clone, [self.steps[number] for number in range(chain.top - 1, first - 1, -1)]
            ) as (reverting, _):
                for step in reverting.plan.steps:
                    reverting.revert(step)
        except (MigrationFailed, PlanRefused):
            return None  # it did before, on another clone: nothing is known then
        made.at = first
        return made

    def _not_again(self, number: int, reason: str) -> None:
        proof = self.proofs[number]
        if proof.standing is Standing.DIFFERS:
            self._note(number, reason)
        elif self._may_be(number):
            self.proofs[number] = replace(proof, standing=Standing.FAILED, reason=reason)

    def _not_the_same(self, number: int, differs: Iterable[Change]) -> None:
        proof = self.proofs[number]
        lines = tuple(f"{line} after the up again" for line in difference_lines(differs))
        if self._may_be(number):
            self.proofs[number] = replace(proof, standing=Standing.DIFFERS, differs=lines)

    def _may_be(self, number: int) -> bool:
        """Whether a down came back to where it was, as far as its trial tells."""
        if self.steps[number].resume is not None:
            return False
        return self.proofs[number].standing in {Standing.PROVEN, Standing.LOSES, Standing.UNTRIED}

    def _note(self, number: int, text: str) -> None:
        proof = self.proofs[number]
        self.proofs[number] = replace(proof, notes=(*proof.notes, text))

    # -- clones --------------------------------------------------------------------------------------------------------

    def _fresh(self, level: int) -> _Chain | None:
        """Make a clone that has the first `level` migrations of the plan; None: enough were made, or it cannot be."""
        if self.fresh >= FRESH:
            return None
        self.fresh += 1
        whole = level == len(self.steps)
        clone = self.stage.clone()
        to_version = self.to_version if whole else self.steps[level - 1].migration.version
        try:
            with self._applying(clone, self.folder, to_version=to_version) as applying:
                for step in applying.plan.steps:
                    applying.apply(step)
        except MigrationFailed:
            return None  # it did on another clone: it is not the same each time
        return _Chain(clone=clone, top=level, at=level, repeatables=whole)

    @contextmanager
    def _applying(self, clone: Clone, folder: Folder, *, to_version: int | None) -> Iterator[ApplyRun]:
        held = {step.migration.version for step in self.steps if step.migration.version is not None}
        known = {one.version for one in folder.migrations}
        include = [version for version in self.include | held if version in known]
        with open_apply(
            clone.settings, clone.environment, folder, self.run, to_version=to_version, include=include
        ) as applying:
            yield applying

    @contextmanager
    def _reverting(self, clone: Clone, steps: Sequence[Step]) -> Iterator[tuple[RevertRun, TracingWatch]]:
        watches: list[TracingWatch] = []

        def watch(target: Target, run_id: str) -> TracingWatch:
            watches.append(TracingWatch(target, run_id))
            return watches[-1]

        only = frozenset(step.migration.version for step in steps if step.migration.version is not None)
        with open_revert(clone.settings, clone.environment, self.folder, self.run, only=only, watch=watch) as reverting:
            yield reverting, watches[0]


# -- in words ----------------------------------------------------------------------------------------------------------


def _untriable(step: Step) -> RevertProof | None:
    """Return the standing that is known without a trial."""
    migration = step.migration
    if (irreversible := migration.up.directives.irreversible) is not None:
        return _proof(step, Standing.IRREVERSIBLE, reason=irreversible)
    if migration.down is None:
        return _proof(step, Standing.MISSING)
    try:
        migration.down.check()
    except MigrationFileError as error:
        return _proof(step, Standing.FAILED, reason=error.message.splitlines()[0], down=migration.down.checksum)
    return None


def _proof(step: Step, standing: Standing, *, reason: str | None = None, down: str | None = None) -> RevertProof:
    return RevertProof(
        name=step.name, version=step.migration.version, standing=standing, reason=reason, down_checksum=down
    )


def _standing(*, differs: bool, loses: bool, known: bool) -> Standing:
    """The standing of a down that ran. `known`: all that it touched was compared."""
    if differs or loses:
        return Standing.DIFFERS if differs else Standing.LOSES
    return Standing.PROVEN if known else Standing.UNTRIED


_WORDS = {Action.CREATED: "is left over", Action.ALTERED: "is another one", Action.DROPPED: "is gone"}


def difference_lines(changes: Iterable[Change]) -> tuple[str, ...]:
    """Return differences in words: index public.orders_total_idx is left over. A table's columns come with it."""
    return tuple(f"{one.change.label} {_WORDS[one.change.action]}" for one in grouped(changes))


def why(error: LockstepError) -> str:
    """Return why a script failed, in one line, without what might be a row's content."""
    if isinstance(error, Unreachable) or not isinstance(error, MigrationFailed):
        return error.message.splitlines()[0]
    place = f"{error.file}:{error.line}" if error.line else error.file
    # Words of a value, or of whoever raised it.
    if error.sqlstate and (error.sqlstate[:2] in {"22", "P0"} or in_authors_words(error)):
        return f"{place}: SQLSTATE {error.sqlstate}"
    return error.message.splitlines()[0].removeprefix(f"{error.target}: ")
