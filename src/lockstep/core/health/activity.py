"""What goes on right now: sessions that hold others up, and what was left behind without one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lockstep.core.duration import format_ms
from lockstep.core.health.facts import Blocked, ClientSession, Prepared
from lockstep.core.health.findings import Finding, Measure, Severity
from lockstep.core.health.names import listed, literal, number
from lockstep.core.health.thresholds import Thresholds

_IDLE = {"idle in transaction", "idle in transaction (aborted)"}


def open_transactions(sessions: Sequence[ClientSession], thresholds: Thresholds) -> Iterator[Finding]:
    """Find sessions that are idle in a transaction, and transactions that have been open for long."""
    for one in sessions:
        idle = thresholds.idle_in_transaction.judge(one.state_ms) if one.state in _IDLE else None
        if idle is not None:
            yield _open(one, "idle-in-transaction", idle, f"{one.state} for {format_ms(one.state_ms)}", one.state_ms)
        elif one.transaction_ms is not None and (severity := thresholds.transaction.judge(one.transaction_ms)):
            text = f"transaction open for {format_ms(one.transaction_ms)}, {one.state}"
            yield _open(one, "long-transaction", severity, text, one.transaction_ms)


def _open(one: ClientSession, check: str, severity: Severity, text: str, ms: int | None) -> Finding:
    return Finding(
        check=check,
        severity=severity,
        object=one.who,
        text=text,
        fix=f"SELECT pg_terminate_backend({one.pid});  -- it is rolled back",
        measures=(
            Measure(name="age", value=ms, unit="ms"),
            Measure(name="pid", value=one.pid, unit="pid"),
        ),
    )


def waiting(blocked: Sequence[Blocked], sessions: Sequence[ClientSession], thresholds: Thresholds) -> Iterator[Finding]:
    """Find sessions that wait for a lock, with those that are in their way."""
    names = {one.pid: one for one in sessions}
    waiters = {one.pid for one in blocked}
    for one in blocked:
        severity = thresholds.blocked.judge(one.waiting_ms)
        if severity is None:
            continue
        ahead = [_who(pid, names) for pid in one.blockers]
        # To end one that waits itself helps nobody.
        roots = sorted(set(one.blockers) - waiters - {0})
        words = [f"user {one.user}" if one.user else "", one.application or ""]
        yield Finding(
            check="blocked-session",
            severity=severity,
            object=f"pid {one.pid} ({', '.join(word for word in words if word)})",
            text=f"waits for {format_ms(one.waiting_ms)}"
            + (f" for {one.relation}" if one.relation else "")
            + (f"; in its way: {listed(ahead)}" if ahead else ""),
            fix=" ".join(f"SELECT pg_terminate_backend({pid});" for pid in roots[:3]) or None,
            measures=(
                Measure(name="waiting", value=one.waiting_ms, unit="ms"),
                Measure(name="pid", value=one.pid, unit="pid"),
            ),
        )


def _who(pid: int, names: dict[int, ClientSession]) -> str:
    if pid == 0:
        return "a prepared transaction"
    if pid not in names:
        return f"pid {pid}"
    one = names[pid]
    return f"{one.who}, {one.state} for {format_ms(one.state_ms)}" if one.state else one.who


def prepared_transactions(prepared: Sequence[Prepared], thresholds: Thresholds) -> Iterator[Finding]:
    """Find prepared transactions that nobody ends."""
    for one in prepared:
        severity = thresholds.prepared.judge(one.prepared_ms)
        if severity is not None:
            yield Finding(
                check="prepared-transaction",
                severity=severity,
                object=one.id,
                text=f"prepared {format_ms(one.prepared_ms)} ago by {one.owner} in {one.database}; "
                f"{number(one.xid_age)} transactions ago",
                fix=f"ROLLBACK PREPARED {literal(one.id)};  -- in {one.database}; or COMMIT PREPARED, as its manager says",
                measures=(
                    Measure(name="age", value=one.prepared_ms, unit="ms"),
                    Measure(name="xid_age", value=one.xid_age, unit="transactions"),
                ),
            )
