"""What is asked for, in words: for the form in the orchestrator's UI and for a terminal."""

from __future__ import annotations

from lockstep.core.approval import Approval
from lockstep.core.moments import utc_minute
from lockstep.core.text import printable

_SHOWN = 12  # characters of a digest
_LISTED = 20  # files


def form_text(asked: Approval) -> str:
    """Return Markdown for the form: what would run, what the rehearsal found, and the command that answers instead."""
    request = asked.request
    files = [f"- `{name}`" for name in request.what[:_LISTED]]
    if len(request.what) > _LISTED:
        files.append(f"- and {len(request.what) - _LISTED} more")
    changes = f", changes `{request.change_digest[:_SHOWN]}`" if request.change_digest else ""
    return "\n".join(
        [
            f"**{request.environment}**: {len(request.what)} to apply",
            "",
            *files,
            "",
            f"Rehearsal: {request.headline} (artifact *rehearsal-{request.environment}* of this run)",
            "",
            f"Plan `{request.plan_digest[:_SHOWN]}`{changes}; expires {utc_minute(request.expires_at)}.",
            "",
            "Prefect cannot tell who fills in this form, and the audit log will say so. By name: "
            f"`lockstep approve {request.run_id}`",
        ]
    )


def terminal_text(target: str, asked: Approval) -> str:
    """Return what is asked for, in lines for a terminal."""
    request = asked.request
    names = list(request.what[:_LISTED])
    if len(request.what) > _LISTED:
        names.append(f"and {len(request.what) - _LISTED} more")
    rows = [
        ("run", f"{request.run_id}, asked by {request.by} as {request.role} at {utc_minute(request.at)}"),
        ("would apply", ", ".join(names)),
        ("rehearsal", request.headline),
        ("backup", request.backup or "none"),
        ("plan", request.plan_digest[:_SHOWN]),
        ("changes", request.change_digest[:_SHOWN] if request.change_digest else "not known"),
        ("expires", utc_minute(request.expires_at)),
    ]
    lines = [f"{target}: {len(request.what)} to apply", *(f"  {name:<12} {printable(text)}" for name, text in rows)]
    return "\n".join(lines)
