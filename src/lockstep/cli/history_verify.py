"""`history --verify`: what was found, and what could not be looked at, in words that name the row."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lockstep.cli.context import Context
from lockstep.cli.history import moment
from lockstep.cli.terminal import error_document, show, show_json, talk
from lockstep.core.counting import counted
from lockstep.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from lockstep.core.audit import Chain, JudgedHead
    from lockstep.service.history import Verified


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.history import verify_history

    chosen = context.settings.chosen(arguments.environments)
    if arguments.head is not None and len(chosen) != 1:
        raise UsageError(
            "--head is of one log: name its environment", hint="lockstep history ENV --verify --head ROW:HASH"
        )
    since = moment(arguments.since, "--since", datetime.now(UTC))
    found = [verify_history(context.settings, one, given=arguments.head, since=since) for one in chosen]
    if context.as_json:
        show_json("history-verify", {"environments": [_document(one) for one in found]})
    else:
        for one in found:
            _show(one)
    return max(map(_code, found), default=ExitCode.DONE, key=_weight)


def _code(one: Verified) -> ExitCode:
    if not one.is_whole:
        return ExitCode.DISAGREES
    if one.check is not None and one.check.trouble is not None:
        return one.check.trouble.exit_code  # not broken, and not proven either
    return ExitCode.DISAGREES if one.check and one.check.export else ExitCode.DONE


def _weight(code: ExitCode) -> int:
    """A broken log is worse than one that could not be looked at whole."""
    return {ExitCode.DONE: 0, ExitCode.DISAGREES: 2}.get(code, 1)


def _show(one: Verified) -> None:
    from lockstep.core.text import printable

    show(printable(one.target))
    for line in findings(one):
        talk(printable(line))
    for line in notes(one):
        show(printable(line))
    show("")


def findings(one: Verified) -> list[str]:
    """Return what is wrong with the log, line by line; nothing when nothing is."""
    chain, lines = one.chain, []
    if chain.broken is not None:
        row = chain.broken
        where = f" ({row.event}, {_at(row.at)})" if row.at else ""
        lines.append(f"audit log broken at row {row.number}{where}: {row.fault.value}")
    if one.check is None:
        return lines
    wrong = one.check.wrong
    lines += [_wrong(head, chain) for head in wrong[:5]]
    if len(wrong) > 5:
        lines.append(f"and {counted(len(wrong) - 5, 'more such end')}")
    lines += [
        f"audit log broken at row {restore.number}: it says that backup {restore.backup} of {restore.of} was restored, and "
        "that backup's log did not end right before it"
        for restore in one.check.false_restores
    ]
    if one.check.export:
        lines.append(f"the export of the rows that were pruned is not as it was: {one.check.export}")
    return lines


def _wrong(one: JudgedHead, chain: Chain) -> str:
    from lockstep.core.audit import Standing

    head = one.head
    seen = f"{head.source}{f' ({_at(head.at)})' if head.at else ''}"
    if one.standing is Standing.MISSING:
        place = f"the log ends at row {chain.newest}" if head.number > chain.newest else "that row is not there"
        return (
            f"audit log broken at row {head.number}: {seen} saw it as the newest, and {place}: newest rows were removed"
        )
    return (
        f"audit log broken at row {head.number} or before: {seen} saw it with another hash ({head.hash[:12]}): rows were "
        "replaced and their hashes computed anew, or this is another database's log"
    )


def notes(one: Verified) -> list[str]:
    """Return what was verified and how far that goes, line by line."""
    from lockstep.core.audit import Standing

    chain, check = one.chain, one.check
    lines = []
    if chain.anchor is not None and chain.first > 1:
        anchor = chain.anchor
        lines.append(
            f"rows 1 to {anchor.up_to} were pruned on {_at(anchor.at)} (event {anchor.number}) and exported to {anchor.key}"
        )
    if check is not None:
        replaced = [head for head in check.heads if head.standing is Standing.REPLACED]
        by_restore = {head.restore.number: head.restore for head in replaced if head.restore}
        for number, restore in by_restore.items():
            count = sum(head.restore is not None and head.restore.number == number for head in replaced)
            lines.append(
                f"{_ends(count)} of the log that a restore replaced: event {number}, {_at(restore.at)}, "
                f"backup {restore.backup} of {restore.of}"
            )
        if pruned := check.count(Standing.PRUNED):
            lines.append(f"{_ends(pruned)} of rows that were pruned, and were not compared with their export")
        if check.passed_over:
            lines.append(f"{_ends(check.passed_over)} of backups before --since, and were passed over")
        if check.unreadable:
            lines.append(
                f"{counted(len(check.unreadable), 'manifest')} cannot be read, so the ends in them are not known"
            )
        if check.trouble is not None:
            lines.append(f"the ends in the backups' manifests could not be read: {check.trouble.message}")
    if not one.is_whole:
        return lines
    whole = counted(chain.length, "row") + (f", {chain.first} to {chain.newest}" if chain.first > 1 else "")
    text = f"audit log whole: {whole}, head {chain.head[:12]}"
    if check is not None and check.trouble is not None:
        text = f"chain whole in itself, its end not compared: {whole}, head {chain.head[:12]}"
    lines.append(text)
    lines.append(_compared(one))
    return lines


def _compared(one: Verified) -> str:
    from lockstep.core.audit import Standing

    check = one.check
    if check is None:
        return "no backup keeps its end, so rows missing at the end would not show: configure [backup], or give --head"
    fitting = check.count(Standing.FITS)
    newest = check.newest
    if not fitting or newest is None:
        return "compared with no end that somebody else saw, so rows missing at the end would not show"
    when = f", {_at(newest.at)}" if newest.at else ""
    more = "" if newest.number == one.chain.newest else f"; rows {newest.number + 1} to {one.chain.newest} are newer"
    ends = counted(fitting, "end that was", "ends that were")
    return f"it fits {ends} noted outside, the newest at row {newest.number} ({newest.source}{when}){more}"


def _ends(count: int) -> str:
    return counted(count, "noted end is", "noted ends are")


def _at(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if at else "?"


def _document(one: Verified) -> dict[str, Any]:
    check = one.check
    return {
        "environment": one.environment,
        "target": one.target,
        "whole": one.is_whole,
        "findings": findings(one),
        "chain": {
            "length": one.chain.length,
            "first": one.chain.first,
            "newest": one.chain.newest,
            "head": one.chain.head,
            "broken_at": one.chain.broken_at,
            "fault": one.chain.broken.fault.name.lower() if one.chain.broken else None,
            "pruned": one.chain.anchor,
        },
        "heads": None
        if check is None
        else {
            "compared": [
                {
                    "row": head.head.number,
                    "hash": head.head.hash,
                    "at": head.head.at,
                    "source": head.head.source,
                    "standing": head.standing.value,
                    "restore": head.restore.number if head.restore else None,
                }
                for head in check.heads
            ],
            "passed_over": check.passed_over,
            "unreadable": check.unreadable,
            "false_restores": [restore.number for restore in check.false_restores],
            "export": check.export,
            "trouble": error_document(check.trouble) if check.trouble else None,
        },
    }
