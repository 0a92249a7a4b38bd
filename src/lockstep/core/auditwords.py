"""What a row of the audit log is about, and what was done, in words. Pure; the words of `history` and of the page."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lockstep.core.approval import ANSWERS
from lockstep.core.counting import counted
from lockstep.core.duration import format_ms

#: What refused a run, by the class of its error as the log holds it.
_REFUSED = {
    "BackupFailed": "no backup",
    "ChangedOtherwise": "changed otherwise",
    "DriftFound": "drift",
    "Held": "a held version",
    "LedgerNotOwned": "the ledger's owner",
    "MigrationFileError": "a file",
    "NotApproved": "not approved",
    "PlanRefused": "the plan",
    "RehearsalRefused": "the rehearsal",
    "RevertNotProven": "the way back",
    "StalePlan": "another plan than shown",
}


def _spaced(name: str) -> str:
    """A class's name as words: `BackupDamaged` is `backup damaged`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def about(event: str, details: Mapping[str, object]) -> str:
    """What an event without a migration is about."""
    if event == "override":
        return str(details.get("gate") or "")
    if event in ("ask", *ANSWERS):
        plan = f"plan {str(details.get('plan', ''))[:12]}"
        return plan if event == "ask" else f"{plan}, asked in {details.get('ask', '?')}"
    if event in ("backup", "verify", "restore", "rehearse"):
        return str(details.get("backup", ""))
    if event == "drift":
        count = details.get("differences")
        return f"{counted(count, 'difference')} accepted" if isinstance(count, int) and count else "schema accepted"
    if event == "refuse":
        why = str(details.get("why", ""))
        return f"lock held by {details['lock']}" if "lock" in details else _REFUSED.get(why) or _spaced(why)
    if event == "baseline":
        up_to = details.get("up_to")
        return f"up to {up_to}" if up_to is not None else "nothing of the folder"
    if event == "prune":
        return f"rows up to {details.get('up_to', '?')}"
    if event == "remove":
        gone = details.get("backups")
        return counted(len(gone), "backup") if isinstance(gone, list) else "? backups"
    return ""


def more(event: str, details: Mapping[str, object]) -> str:
    """What was done, and the reason that was given."""
    what = ""
    if event == "verify":
        what = f"{details.get('level', '?')}: {'holds' if details.get('ok') else 'FAILED'}"
    elif event == "check":
        what = "the application works" if details.get("ok") else f"FAILED: {details.get('message', '?')}"
    elif event == "restore":
        old, lost = details.get("old_database"), details.get("rows_lost")
        what = f"of {details.get('of', '?')}" + (f", the old database is {old}" if old else "")
        what += f", {lost:,} rows only there" if isinstance(lost, int) and lost else ""
    elif event == "repair":
        what = str(details.get("what") or "")
    elif event == "fail":
        place = ":".join(str(details[key]) for key in ("file", "line") if details.get(key) is not None)
        state = f"SQLSTATE {details['sqlstate']}" if details.get("sqlstate") else ""
        what = ", ".join(one for one in (place, state) if one)
    elif event == "heal":
        what = f"dropped the invalid index {details.get('dropped', '?')}"
    elif event in ("start", "resume"):
        script = "the down script, " if details.get("revert") else ""
        what = script + ("in units" if event == "start" else "behind what was done")
    elif event == "refuse":
        what = str(details.get("message") or "")
    elif event == "prune":
        what = f"{details.get('rows', '?')} rows, exported to {details.get('key', '?')}"
    elif event == "apply" and isinstance(rehearsed := details.get("rehearsed"), dict):
        what = f"rehearsed {_ms(rehearsed.get('ms'))}"
        if "blocking_ms" in rehearsed:
            what += f", {rehearsed.get('mode')} on {rehearsed.get('relation')} for {_ms(rehearsed.get('blocking_ms'))}"
    elif event in ("rehearse", "override"):
        what = str(details.get("outcome") or "")
        if isinstance(worst := details.get("worst"), dict):
            what += f", {worst.get('mode')} on {worst.get('relation')} for {_ms(worst.get('ms'))}"
    elif event == "ask":
        files = details.get("files")
        what = f"{len(files) if isinstance(files, list) else '?'} to apply, asked by {details.get('by', '?')}"
    elif event in ("approve", "reject"):
        how = details.get("how", "?")
        what = f"by {details.get('by', '?')} ({'--approve' if how == 'flag' else how})"
    elif event == "init" and details.get("changed"):
        changed = details["changed"]
        what = f"changed: {', '.join(map(str, changed))}" if isinstance(changed, list) else ""
    reason = str(details.get("reason") or "")
    return f"{what} ({reason})" if what and reason else what or reason


def _ms(value: object) -> str:
    return format_ms(round(value)) if isinstance(value, int | float) else "?"
