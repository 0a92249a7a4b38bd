"""The ways back from a deploy, side by side: what each takes on the copy, and what it loses. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC

from lockstep.core.duration import format_ms
from lockstep.core.migration import label
from lockstep.core.planner import Plan
from lockstep.core.rehearsal.proof import Loss, RevertProof, Standing, WayBack, losses_text
from lockstep.core.rehearsal.report import Copy

#: Standings with which a revert comes back to the schema that there was.
_LEADS_BACK = frozenset({Standing.PROVEN, Standing.LOSES})


def ways_back(proofs: Sequence[RevertProof], *, environment: str, plan: Plan, copy: Copy) -> tuple[WayBack, ...]:
    """Return revert and restore. A plan without a step needs no way back."""
    if not plan.steps:
        return ()
    lost = f"everything written since the backup of {copy.taken_at.astimezone(UTC):%H:%M} UTC"
    restore = WayBack(
        how="restore",
        ms=float(copy.restore_ms),
        loses=lost,
        command=f"lockstep restore {copy.backup} --into {environment} --replace",
    )
    return _revert(proofs, environment, plan), restore


def way_lines(ways: Sequence[WayBack]) -> tuple[str, ...]:
    """Return each way back in one line, with its time on the copy: for errors, alerts and whoever is on call."""
    return tuple(_line(one) for one in ways)


def _line(way: WayBack) -> str:
    if not way.command:
        return f"{way.how}: {way.loses}"
    took = f"took {format_ms(way.ms)} on the copy" if way.ms is not None else "not measured"
    return f"{way.how}: {took}, loses {way.loses or 'nothing'}: {way.command}"


def _revert(proofs: Sequence[RevertProof], environment: str, plan: Plan) -> WayBack:
    if not proofs:
        return WayBack(how="revert", ms=None, loses="there is none: repeatables are changed, not reverted", command="")
    stopped = [one for one in proofs if one.standing not in _LEADS_BACK]
    if stopped:
        first = stopped[-1]  # the one that a revert would come to first
        return WayBack(how="revert", ms=None, loses=f"there is none: {label(first.name)}: {first.text}", command="")
    times = [one.ms for one in proofs if one.ms is not None]
    return WayBack(
        how="revert",
        ms=sum(times) if len(times) == len(proofs) else None,
        loses=losses_text(_of_all(proofs)),
        command=_command(proofs, environment, plan),
    )


def _of_all(proofs: Sequence[RevertProof]) -> tuple[Loss, ...]:
    """The losses of all, each relation and column once: what one down drops another may have emptied before."""
    found: dict[tuple[str, str | None, str], Loss] = {}
    for proof in proofs:
        for one in proof.losses:
            key = (one.relation, one.column, one.what)
            found[key] = replace(one, rows=max(one.rows, found[key].rows)) if key in found else one
    return tuple(found.values())


def _command(proofs: Sequence[RevertProof], environment: str, plan: Plan) -> str:
    versions = {one.version for one in proofs}
    older = [
        row.version
        for row in plan.rows
        if row.version is not None and row.entry is not None and row.version not in versions
    ]
    head = max(older, default=None)
    if head is not None and any(one.version is not None and one.version < head for one in proofs):
        newest_first = sorted((version for version in versions if version is not None), reverse=True)
        return " && ".join(f"lockstep revert {environment} --only {version}" for version in newest_first)
    return f"lockstep revert {environment} --to {'none' if head is None else head}"
