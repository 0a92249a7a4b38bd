"""A branch against its base, before it is merged: what a deploy would stumble over afterwards, as findings.

Three values, as in a merge: the common ancestor, the base branch's tip, and the files here. A file on the base counts
as applied somewhere. What the base changed meanwhile is not this branch's doing, and no finding. Pure: no git, no disk.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from lockstep.core.checksum import content_digest, decode, sql_tokens
from lockstep.core.filename import FileName, Part, parse_file_name
from lockstep.core.findings import Finding, Severity
from lockstep.core.text import excerpt
from lockstep.errors import MigrationFileError


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedFile:
    """One numbered file of the migrations folder at one moment."""

    name: str  # file name in the migrations folder
    number: FileName  # what the name says
    text: str | None  # of an up, decoded as for a checksum; None: another part, or no text that could be applied

    @property
    def version(self) -> int:
        return self.number.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The numbered files of the migrations folder at one moment: a commit, or the disk now."""

    files: tuple[NumberedFile, ...] = ()  # ups, downs and verify scripts; several may share a number

    def ups(self) -> dict[str, NumberedFile]:
        return {f.name: f for f in self.files if f.number.part is Part.UP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    """The three sides of the comparison, and how messages call them."""

    ancestor: Snapshot  # where this branch left the base
    base: Snapshot  # the base's tip
    here: Snapshot  # the files on disk, committed or not
    revision: str  # the base as it was named: origin/main
    folder: str  # the migrations folder as configured, for commands in hints


def numbered_file(name: str, raw: bytes | None) -> NumberedFile | None:
    """Return the file, or None when its name is none of ours. `raw` counts for ups alone."""
    number = parse_file_name(name)
    if number is None:
        return None
    text = None
    if raw is not None and number.part is Part.UP:
        try:
            text = decode(raw, name)
        except MigrationFileError:
            text = None  # on disk it is a finding of its own; on the base it cannot have been applied
    return NumberedFile(name=name, number=number, text=text)


def against_base(branches: Branches, unapplied: Collection[int] = ()) -> tuple[Finding, ...]:
    """Return what is wrong with this branch once it is merged. Versions in `unapplied` may be changed and removed."""
    ancestor, base, here = branches.ancestor.ups(), branches.base.ups(), branches.here.ups()
    fresh = [f for f in here.values() if f.name not in ancestor and f.name not in base]
    found: list[Finding] = []
    taken: set[str] = set()  # new files that stand for one of the base's under another name
    for name, theirs in base.items():
        ours = here.get(name)
        if ours is not None:
            before = ancestor.get(name)
            if theirs.version not in unapplied and not (before and before.text == ours.text):
                found += _changed(branches, theirs, ours)
        elif name in ancestor:
            successor = _successor(theirs, fresh)
            if theirs.version not in unapplied:
                found.append(_gone(branches, theirs, successor))
            if successor and (theirs.version not in unapplied or successor.version == theirs.version):
                taken.add(successor.name)
    found += _misnumbered(branches, sorted((f for f in fresh if f.name not in taken), key=_order), fresh)
    return tuple(found)


def _order(file: NumberedFile) -> tuple[int, str]:
    return file.version, file.name


def _path(branches: Branches, name: str) -> str:
    return shlex.quote(name if branches.folder in ("", ".") else f"{branches.folder.rstrip('/')}/{name}")


def _restore(branches: Branches, name: str) -> str:
    return f"git restore --source={shlex.quote(branches.revision)} -- {_path(branches, name)}"


# -- files of the base --------------------------------------------------------------------------------------------


def _changed(branches: Branches, theirs: NumberedFile, ours: NumberedFile) -> Iterator[Finding]:
    if theirs.text is None or ours.text is None or theirs.text == ours.text:
        return
    line = _first_difference(theirs.text, ours.text)
    digest = content_digest(ours.text)
    if digest is not None and digest == content_digest(theirs.text):
        yield Finding(
            severity=Severity.WARNING,
            rule="reformatted-since-base",
            file=ours.name,
            line=line,
            column=None,
            message=f"comments or white space differ from {branches.revision}; the SQL is the same",
            hint="fine, it will be shown as reformatted; to say so in the file: "
            '-- lockstep: allow=reformatted-since-base reason="…"',
            excerpt=excerpt(ours.text, line),
        )
        return
    yield Finding(
        severity=Severity.ERROR,
        rule="changed-since-base",
        file=ours.name,
        line=line,
        column=None,
        message=f"the SQL differs from {branches.revision}, where it counts as applied",
        hint=f"{_restore(branches, ours.name)}, and write a new migration; "
        f"if it is applied nowhere: --unapplied {ours.version}",
        excerpt=excerpt(ours.text, line),
    )


def _first_difference(before: str, after: str) -> int:
    """The first line (from 1) of `after` that says something else; its last one where the end was cut off.

    Where only comments and white space differ, or one of the two is no SQL, any difference counts.
    """
    old, new = _tokens(before), _tokens(after)
    if old and new and (changed := _where([t for _, t in old], [t for _, t in new])) is not None:
        return after.encode().count(b"\n", 0, new[changed][0]) + 1
    lines = after.split("\n")
    where = _where(before.split("\n"), lines)
    return len(lines) if where is None else where + 1


def _tokens(text: str) -> list[tuple[int, bytes]]:
    from lockstep.core.grammar import PgQueryError

    try:
        return list(sql_tokens(text))
    except PgQueryError:
        return []


def _where(old: Sequence[str] | Sequence[bytes], new: Sequence[str] | Sequence[bytes]) -> int | None:
    """Index of the first of `new` that is not as in `old`; the last one when the end is missing; None when equal."""
    for index, one in enumerate(new):
        if index >= len(old) or old[index] != one:
            return index
    return len(new) - 1 if len(new) < len(old) else None


def _successor(gone: NumberedFile, fresh: list[NumberedFile]) -> NumberedFile | None:
    """The new file that a file of the base became: of the same number, or else with the same SQL."""
    for file in fresh:
        if file.version == gone.version:
            return file
    digest = content_digest(gone.text) if gone.text is not None else None
    for file in fresh:
        if digest is not None and file.text is not None and content_digest(file.text) == digest:
            return file
    return None


def _gone(branches: Branches, theirs: NumberedFile, successor: NumberedFile | None) -> Finding:
    if successor is None:
        return Finding(
            severity=Severity.ERROR,
            rule="removed-since-base",
            file=theirs.name,
            line=None,
            column=None,
            message=f"it is on {branches.revision}, where it counts as applied, and was removed here",
            hint=f"{_restore(branches, theirs.name)}; if it is applied nowhere: --unapplied {theirs.version}",
        )
    old, new = _path(branches, theirs.name), _path(branches, successor.name)
    return Finding(
        severity=Severity.ERROR,
        rule="renamed-since-base",
        file=successor.name,
        line=None,
        column=None,
        message=f"it is {theirs.name} on {branches.revision}, where it counts as applied, and was renamed here",
        hint=f"git mv {new} {old}; if it is applied nowhere: --unapplied {theirs.version}",
    )


# -- files of this branch -----------------------------------------------------------------------------------------


def _misnumbered(branches: Branches, candidates: list[NumberedFile], fresh: list[NumberedFile]) -> Iterator[Finding]:
    """New files whose number is taken on the base, or older than its newest. They get the next free ones, in order."""
    theirs = branches.base.ups().values()
    newest = max(theirs, key=_order, default=None)
    if newest is None:
        return
    used = {f.version for side in (branches.base, branches.here) for f in side.files}
    free = newest.version
    for file in candidates:
        if file.version > newest.version:
            continue
        free = next(n for n in range(free + 1, free + 2 + len(used)) if n not in used)
        twin = next((f for f in sorted(theirs, key=_order) if f.version == file.version), None)
        if twin:
            rule = "duplicate-on-base"
            message = f"has the same number as {twin.name} on {branches.revision}"
        else:
            rule = "older-than-base"
            message = (
                f"is older than {newest.name}, the newest on {branches.revision}: "
                "where that one is applied, this one comes out of order"
            )
        number = str(free).zfill(len(newest.number.digits))
        moves = [
            f"git mv {_path(branches, part.name)} {_path(branches, number + part.name[len(part.number.digits) :])}"
            for part in _parts(branches, file, fresh)
        ]
        hint = f"{number} is the next free number: {' && '.join(moves)}"
        overtaken = [f.name for f in sorted(fresh, key=_order) if newest.version < f.version < free]
        if overtaken:
            hint += f" (it then runs after {', '.join(overtaken)})"
        yield Finding(
            severity=Severity.ERROR, rule=rule, file=file.name, line=None, column=None, message=message, hint=hint
        )


def _parts(branches: Branches, up: NumberedFile, fresh: list[NumberedFile]) -> list[NumberedFile]:
    """The up, with the down and verify scripts that this branch brought for it."""
    known = {f.name for side in (branches.ancestor, branches.base) for f in side.files}
    alone = sum(f.version == up.version for f in fresh) == 1
    beside = [
        f
        for f in branches.here.files
        if f.version == up.version
        and f.number.part is not Part.UP
        and f.name not in known
        and (alone or f.number.title == up.number.title)
    ]
    return [up, *beside]


def moved_with(branches: Branches, name: str) -> frozenset[str]:
    """The names that move together when this new file gets another number."""
    ancestor, base, here = branches.ancestor.ups(), branches.base.ups(), branches.here.ups()
    fresh = [f for f in here.values() if f.name not in ancestor and f.name not in base]
    return frozenset(f.name for f in _parts(branches, here[name], fresh))
