"""Judges a rehearsal: a pure function of what was traced, proven and found, the budgets, and what files allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lockstep.core import privacy
from lockstep.core.counting import counted
from lockstep.core.duration import format_ms
from lockstep.core.locking.lock_modes import Mode, strongest
from lockstep.core.migration import SqlFile
from lockstep.core.rehearsal.proof import RevertProof, Standing
from lockstep.core.rehearsal.rules import BINDING
from lockstep.core.rehearsal.tiers import Tier
from lockstep.core.rehearsal.trace import FileTrace, StatementTrace
from lockstep.core.rehearsal.verdict import Budgets, Note, Outcome, Problem, Verdict
from lockstep.core.rehearsal.windows import PARTS, kinds_of, preferred
from lockstep.core.size import format_bytes

Place = tuple[str, int]  # migration_name, line
LARGE_WAL = 1_000_000_000  # bytes of one file from which it is worth a note


def judge(
    files: Iterable[FileTrace],
    budgets: Budgets,
    *,
    proofs: Iterable[RevertProof] = (),
    found: Iterable[Problem] = (),
    notes: Iterable[Note] = (),
    left: Sequence[str] = (),
    advice: Mapping[Place, str] | None = None,
    allowances: Mapping[str, Mapping[str, str]] | None = None,
) -> Verdict:
    """Return the verdict.

    `found` and `notes` is what others found: a failure on the data, a resume, doubts, the copy itself. `left` are the
    files that could not be tried because of the one before them: they count where nothing else keeps it from passing. `advice` says
    what to do instead of a statement, `allowances` which rules a file accepts, and why. A problem fails unless its file
    allows it; failed beats could not verify, which beats passed.
    """
    files, proofs, advice = tuple(files), tuple(proofs), advice or {}
    problems = [*found]
    for file in files:
        problems += [*_windows(file, budgets, advice), *_rewrites(file, budgets, advice), *_invalid(file)]
    if budgets.needs_proven_revert:
        problems += [one for proof in proofs if (one := _revert(proof)) is not None]
    told = (replace(one, advice=privacy.in_words(one.advice)) for one in problems)
    accepted = [_accepted(one, allowances or {}) for one in told]
    counted = [one for one in accepted if one.reason is None]
    if left and not any(one.outcome is Outcome.FAILED for one in counted):
        counted.append(_not_tried(left))
    counted.sort(key=lambda one: one.outcome is not Outcome.FAILED)
    return Verdict(
        outcome=counted[0].outcome if counted else Outcome.PASSED,
        problems=tuple(counted),
        allowed=tuple(one for one in accepted if one.reason is not None),
        notes=(*notes, *(note for file in files for note in _notes(file, budgets)), *_down_notes(proofs, budgets)),
    )


def _not_tried(left: Sequence[str]) -> Problem:
    names = f"{', '.join(left[:3])}{f' and {len(left) - 3} more' if len(left) > 3 else ''}"
    return Problem(
        outcome=Outcome.UNVERIFIED,
        rule="not-tried",
        message=f"behind a file that does not run on the copy, {names} {'was' if len(left) == 1 else 'were'} not tried",
        advice="deploy up to that file first (--to VERSION); what is behind it is tried then",
    )


def with_failure(problems: Iterable[Problem], failure: Problem, line: int | None) -> list[Problem]:
    """The problems with a failure of the statement at `line`. Where that leaves the database, it says nothing on a copy."""
    counted = list(problems)
    for index, one in enumerate(counted):
        if (one.file, one.line) == (failure.file, line) and one.outcome is Outcome.UNVERIFIED:
            counted[index] = replace(one, message=f"{one.message}; it fails there: {failure.message}")
            return counted
    return [*counted, failure]


def allowances_of(files: Iterable[SqlFile]) -> dict[str, dict[str, str]]:
    """Return what files accept: file -> rule -> reason."""
    return {file.name: {one.rule: one.reason for one in file.directives.allow} for file in files}


def resume_differs(file: str, differences: Iterable[str]) -> Problem:
    """A file outside of a transaction, cut off half-way, that did not come to the same end when it went on."""
    lines = tuple(differences)
    more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
    return Problem(
        outcome=Outcome.FAILED,
        rule="resume-differs",
        message=f"cut off half-way and gone on with, it ends differently: {'; '.join(lines[:3])}{more}",
        file=file,
        advice="let each statement bear being begun again, or put them into files of their own",
    )


def copy_differs(findings: Iterable[str]) -> tuple[Problem, ...]:
    """A copy that is not what its backup says it holds."""
    return tuple(
        Problem(
            outcome=Outcome.FAILED,
            rule="copy-differs",
            message=f"the restored copy is not what was backed up: {finding}",
            advice="take another backup and rehearse on that: lockstep rehearse ENV --fresh",
        )
        for finding in findings
    )


def reduced_copy(tier: str) -> Problem | None:
    """A copy without rows; None when it has all, or those that the plan may touch: what else it reads is told apart."""
    if tier != Tier.SCHEMA.value:
        return None
    return Problem(
        outcome=Outcome.UNVERIFIED,
        rule="reduced-copy",
        message=f"it was tried on a reduced copy ({tier}): what depends on the missing rows is not known",
        advice="give it the time for a whole copy: time_budget under [rehearsal] in lockstep.toml",
    )


# -- what the trace tells -----------------------------------------------------------------------------------------


def _windows(file: FileTrace, budgets: Budgets, advice: Mapping[Place, str]) -> Iterable[Problem]:
    """One problem per statement whose locks are held for too long, by the relation that people know it by."""
    kinds = kinds_of(file)
    over = [one for one in file.windows if one.mode.strong and one.ms * budgets.slower > budgets.max_blocking_ms]
    for line in sorted({one.line for one in over}):
        own = [one for one in over if one.line == line]
        worst = min(own, key=lambda one: preferred(one, kinds))
        also = {one.relation for one in own} - {worst.relation}
        slow = slowest(file, line)
        message = (
            f"{worst.mode.value} on {worst.relation} keeps {worst.mode.blocks} waiting for "
            f"{format_ms(worst.ms * budgets.slower)} (max_blocking is {format_ms(budgets.max_blocking_ms)})"
        )
        if budgets.slower > 1:
            message += (
                f"; {format_ms(worst.ms)} on the copy, and times there are × {budgets.slower:.1f} by earlier runs"
            )
        if also:
            message += f", and with it {_others(len(also))}"
        if slow is not None and slow.line != line:
            message += f"; {format_ms(slow.ms)} of that is line {slow.line}, {slow.kind}"
        yield Problem(
            outcome=Outcome.FAILED,
            rule="blocks-too-long",
            message=message,
            file=file.name,
            line=line,
            advice=_advice(file, line, slow, advice),
        )


def slowest(file: FileTrace, line: int) -> StatementTrace | None:
    """Return the statement that takes longest from that of `line` on, as long as its transaction lasts."""
    index = next((n for n, one in enumerate(file.statements) if one.line == line), None)
    if index is None:
        return None
    rest = file.statements[index:] if file.transactional else file.statements[index : index + 1]
    return max(rest, key=lambda one: one.ms)


def _advice(file: FileTrace, line: int, slow: StatementTrace | None, advice: Mapping[Place, str]) -> str:
    """What to do instead: about the statement that takes long, else about the one that locks, else what always helps."""
    if slow is not None and slow.line != line:
        apart = f"begin another file with line {slow.line}: what line {line} locks is let go before it"
        return advice.get((file.name, slow.line)) or apart
    return advice.get((file.name, line)) or (
        'do it while nobody waits, and say so at the head of the file:\n-- lockstep: allow=blocks-too-long reason="…"'
    )


def _rewrites(file: FileTrace, budgets: Budgets, advice: Mapping[Place, str]) -> Iterable[Problem]:
    held: dict[str, Mode] = {}
    for one in file.statements:
        if not file.transactional:
            held.clear()
        for lock in one.locks:
            if lock.relation not in held or held[lock.relation].rank < lock.mode.rank:
                held[lock.relation] = lock.mode
        under = [(rewrite, _under(one, rewrite.relation, held)) for rewrite in one.rewrites]
        over = [(rewrite, mode) for rewrite, mode in under if mode is not None and rewrite.bytes > budgets.max_rewrite]
        if not over:
            continue
        # An index is written anew with its table: the table is what to name.
        rewrite, mode = min(over, key=lambda pair: (pair[0].kind in PARTS, -pair[0].bytes))
        why = f" ({rewrite.reason})" if rewrite.reason else ""
        also = f", and {_others(len(over) - 1)} with it" if len(over) > 1 else ""
        yield Problem(
            outcome=Outcome.FAILED,
            rule="rewrites-too-much",
            message=f"{format_bytes(rewrite.bytes)} of {rewrite.relation} are written anew{why} under {mode.value} "
            f"(max_rewrite is {format_bytes(budgets.max_rewrite)}){also}: {mode.blocks} wait",
            file=file.name,
            line=one.line,
            advice=_advice(file, one.line, None, advice),
        )


def _others(count: int) -> str:
    return counted(count, "other relation")


def _under(statement: StatementTrace, relation: str, held: Mapping[str, Mode]) -> Mode | None:
    """The strong lock that a relation is written anew under; None where nobody waits for it."""
    mode = held.get(relation)
    if mode is None and "CONCURRENTLY" not in statement.kind:
        # An index is locked through its table; of a sampled statement the lock may not have been seen.
        mode = strongest(list(held.values())) or (Mode.ACCESS_EXCLUSIVE if statement.sampled else None)
    return mode if mode is not None and mode.strong else None


def _invalid(file: FileTrace) -> Iterable[Problem]:
    for name in file.invalid_indexes:
        yield Problem(
            outcome=Outcome.FAILED,
            rule="leaves-invalid-index",
            message=f"the index {name} is left invalid: no query uses it, every write keeps it up",
            file=file.name,
            advice="build it anew, in a file of its own (of a partitioned table: attach the indexes that are missing):\n"
            f"-- lockstep: transaction=none\nREINDEX INDEX CONCURRENTLY {name};",
        )


def _revert(proof: RevertProof) -> Problem | None:
    if proof.version is None or proof.standing in (Standing.PROVEN, Standing.IRREVERSIBLE):
        return None
    return Problem(
        outcome=Outcome.UNVERIFIED if proof.standing is Standing.UNTRIED else Outcome.FAILED,
        rule="unproven-revert",
        message=f"its way back is asked to be proven, and is not: {proof.text}",
        file=proof.name,
        advice=_DOWN[proof.standing],
    )


_IRREVERSIBLE = 'say at the head of the file why there is no way back:\n-- lockstep: irreversible="…"'
_DOWN = {
    Standing.DIFFERS: "mend the down script: it must bring back exactly what there was",
    Standing.FAILED: "mend the down script: it must run on a database that the migration was applied to",
    Standing.LOSES: "let the down keep the rows (rename instead of drop), or accept the loss at the head of the file:\n"
    '-- lockstep: allow=unproven-revert reason="…"',
    Standing.MISSING: f"write a down script, or {_IRREVERSIBLE}",
    Standing.UNTRIED: "mend what kept it from being tried",
}


# -- what a person should know besides ----------------------------------------------------------------------------


def _notes(file: FileTrace, budgets: Budgets) -> Iterable[Note]:
    left = sum(one.ms for one in file.statements)
    for one in file.statements:
        held = left if file.transactional else one.ms / max(one.batches, 1)
        left -= one.ms
        changed = [table for table in one.written if table.updated or table.deleted]
        if changed and held > budgets.max_blocking_ms:
            rows = sum(table.updated + table.deleted for table in changed)
            tables = " and ".join(table.relation for table in changed[:2])
            yield Note(
                message=f"{counted(rows, 'row')} of {tables} that {one.kind} changes {'stays' if rows == 1 else 'stay'} locked for {format_ms(held)}: "
                "whoever changes one of them waits",
                file=file.name,
                line=one.line,
            )
    if file.wal > LARGE_WAL:
        yield Note(
            message=f"it makes {format_bytes(file.wal)} of write-ahead log: standbys and archiving fall behind meanwhile",
            file=file.name,
        )


def _down_notes(proofs: Iterable[RevertProof], budgets: Budgets) -> Iterable[Note]:
    for proof in proofs:
        if proof.blocking_ms is not None and proof.blocking_ms > budgets.max_blocking_ms:
            yield Note(
                message=f"taking it back would keep others waiting for {format_ms(proof.blocking_ms)}", file=proof.name
            )


def _accepted(problem: Problem, allowances: Mapping[str, Mapping[str, str]]) -> Problem:
    """The problem with the reason for which its file allows it, if it does."""
    if problem.rule in BINDING or problem.file is None or problem.reason is not None:
        return problem
    reason = allowances.get(problem.file, {}).get(problem.rule)
    return problem if reason is None else replace(problem, reason=reason)
