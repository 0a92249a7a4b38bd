"""The server as a whole: ids that run out, connections, damage, archiving, replication, settings, backups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lockstep.core.duration import format_ms
from lockstep.core.health.facts import BackupAges, Database, OldTable, Replica, Server, Slot
from lockstep.core.health.findings import Finding, Measure, Severity
from lockstep.core.health.names import listed, literal, number, percent, quoted
from lockstep.core.health.thresholds import Thresholds, worst
from lockstep.core.size import format_bytes

_END = 2**31  # ids from the oldest to the newest; PostgreSQL manual, 24.1.5 "Preventing Transaction ID Wraparound"


def old_ids(
    databases: Sequence[Database], tables: Sequence[OldTable], server: Server, thresholds: Thresholds
) -> Iterator[Finding]:
    """Find databases whose oldest transaction or multixact id is old, however that came."""
    for one in databases:
        for check, what, age, started in (
            ("xid-age", "transactions", one.xid_age, server.freeze_max_age),
            ("multixact-age", "multixacts", one.multixact_age, server.multixact_freeze_max_age),
        ):
            if age is None:
                continue
            used, overdue = percent(age, _END), percent(age, started)
            late = Severity.WARNING if overdue >= thresholds.freeze_overdue else None
            severity = worst(thresholds.wraparound.judge(used), late)
            if severity is None:
                continue
            oldest = sorted(tables, key=lambda t: -(t.xid_age if check == "xid-age" else t.multixact_age))
            if one.current and oldest:
                fix = f"VACUUM (FREEZE, VERBOSE) {oldest[0].name};"
                if len(oldest) > 1:
                    fix += f"  -- then {listed([t.name for t in oldest[1:]])}"
            else:
                fix = f"VACUUM (FREEZE);  -- as a superuser, in {one.name}"
            yield Finding(
                check=check,
                severity=severity,
                object=quoted(one.name),
                text=f"{number(age)} {what} old: {used:.1f} % of the way to the end at {number(_END)}, "
                f"{overdue:.0f} % of where autovacuum steps in",
                fix=fix,
                measures=(
                    Measure(name="age", value=age, unit=what),
                    Measure(name="used", value=used, unit="percent"),
                ),
            )


def checksum_failures(databases: Sequence[Database]) -> Iterator[Finding]:
    """Find databases that read damaged pages."""
    for one in databases:
        if not one.checksum_failures:
            continue
        when = f", last {one.checksum_last_failure:%Y-%m-%d %H:%M} UTC" if one.checksum_last_failure else ""
        yield Finding(
            check="checksum-failures",
            severity=Severity.CRITICAL,
            object=quoted(one.name) if one.current is not None else one.name,
            text=f"{number(one.checksum_failures)} pages with a wrong checksum were read{when}",
            fix="-- find them in the server's log; keep a copy of the data directory; restore from a verified backup",
            measures=(Measure(name="failures", value=one.checksum_failures, unit="pages"),),
        )


def server_wide(server: Server, thresholds: Thresholds) -> Iterator[Finding]:
    """Find settings that endanger data, connections that run out, an archive that gets nothing."""
    if not server.checksums:
        yield Finding(
            check="checksums-off",
            severity=Severity.INFO,
            object="server",
            text="data_checksums = off",
            fix="-- with the server stopped: pg_checksums --enable; or on a new one: initdb --data-checksums",
        )
    for name, on in (("fsync", server.fsync), ("full_page_writes", server.full_page_writes)):
        if not on:
            yield Finding(
                check="unsafe-settings",
                severity=Severity.CRITICAL,
                object=name,
                text=f"{name} = off",
                fix=f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();",
            )
    if not server.autovacuum:
        yield Finding(
            check="autovacuum-off",
            severity=Severity.CRITICAL,
            object="server",
            text="autovacuum or track_counts is off",
            fix="ALTER SYSTEM SET autovacuum = on; ALTER SYSTEM SET track_counts = on; SELECT pg_reload_conf();",
        )
    yield from _connections(server, thresholds)
    yield from _archiver(server)


def _connections(server: Server, thresholds: Thresholds) -> Iterator[Finding]:
    most = server.max_connections - server.reserved_connections
    used = percent(server.connections, most)
    severity = thresholds.connections.judge(used)
    if severity is not None:
        yield Finding(
            check="connections",
            severity=severity,
            object="server",
            text=f"{server.connections} of {most} in use ({used:.0f} %); max_connections = {server.max_connections}, "
            f"{server.reserved_connections} of them reserved",
            fix="SELECT usename, application_name, state, count(*) FROM pg_stat_activity GROUP BY 1, 2, 3 ORDER BY 4 DESC;",
            measures=(
                Measure(name="used", value=used, unit="percent"),
                Measure(name="connections", value=server.connections, unit="connections"),
            ),
        )


def _archiver(server: Server) -> Iterator[Finding]:
    failed, archived = server.last_failed_time, server.last_archived_time
    if not server.archiving or failed is None or (archived is not None and archived > failed):
        return
    last = f"last success {archived:%Y-%m-%d %H:%M} UTC" if archived else "never a success since the counters began"
    yield Finding(
        check="archiver-failing",
        severity=Severity.CRITICAL,
        object=server.last_failed_wal or "server",
        text=f"{number(server.failed_count)} failures, the last one {failed:%Y-%m-%d %H:%M} UTC; {last}",
        fix="SHOW archive_command;  -- the server's log has what it says",
        measures=(Measure(name="failures", value=server.failed_count, unit="failures"),),
    )


def lagging(replicas: Sequence[Replica], thresholds: Thresholds) -> Iterator[Finding]:
    """Find standbys and subscribers that are behind, in time or in bytes."""
    for one in replicas:
        severity = worst(thresholds.replica_lag.judge(one.lag_ms), thresholds.replica_behind.judge(one.behind))
        if severity is None:
            continue
        words = [f"{format_bytes(one.behind)} behind"] if one.behind is not None else []
        words += [format_ms(one.lag_ms)] if one.lag_ms is not None else []
        yield Finding(
            check="replication-lag",
            severity=severity,
            object=f"{one.name} ({one.address})" if one.address else one.name,
            text=", ".join(words) + (f"; {one.state}" if one.state else ""),
            fix="SELECT * FROM pg_stat_replication;  -- state, wait events and replay_lsn tell where it is held up",
            measures=(
                Measure(name="lag", value=one.lag_ms, unit="ms"),
                Measure(name="behind", value=one.behind, unit="bytes"),
            ),
        )


def troubled_slots(slots: Sequence[Slot], thresholds: Thresholds) -> Iterator[Finding]:
    """Find slots that have lost WAL, keep too much of it, or that nobody reads."""
    for one in slots:
        lost = {"lost": Severity.CRITICAL, "unreserved": Severity.CRITICAL}.get(one.wal_status or "")
        unread = Severity.WARNING if not one.active else None
        severity = worst(lost, unread, thresholds.slot_retained.judge(one.retained))
        if severity is None:
            continue
        words = ["nobody reads it" if not one.active else "it is read"]
        words += [f"keeps {format_bytes(max(one.retained, 0))} of WAL"] if one.retained is not None else []
        words += [f"wal_status {one.wal_status}"] if one.wal_status else []
        words += [f"holds VACUUM back by {number(one.xid_age)} transactions"] if one.xid_age else []
        drop = f"SELECT pg_drop_replication_slot({literal(one.name)});"
        yield Finding(
            check="replication-slot",
            severity=severity,
            object=one.name,
            text=f"{one.type}: {', '.join(words)}",
            fix=f"{drop}  -- if its reader is gone for good; else start the reader" if not one.active else None,
            measures=(
                Measure(name="retained", value=one.retained, unit="bytes"),
                Measure(name="xid_age", value=one.xid_age, unit="transactions"),
            ),
        )


def old_backups(backups: BackupAges, environment: str, server: Server, thresholds: Thresholds) -> Iterator[Finding]:
    """Find that there is no recent backup, no recent proof of one, or that the last proof failed."""

    def found(severity: Severity | None, name: str, text: str, fix: str, ms: float | None) -> Iterator[Finding]:
        if severity is not None:
            measures = (Measure(name="age", value=None if ms is None else round(ms), unit="ms"),)
            yield Finding(
                check="backup-age", severity=severity, object=name, text=text, fix=fix, measures=measures
            )  # fmt: skip

    if backups.taken_at is None:
        yield from found(Severity.CRITICAL, "backup", "none is recorded", f"lockstep backup {environment}", None)
        return
    age = (server.now - backups.taken_at).total_seconds() * 1_000
    text = f"the newest is {format_ms(age)} old, of {backups.taken_at:%Y-%m-%d %H:%M} UTC"
    yield from found(thresholds.backup.judge(age), "backup", text, f"lockstep backup {environment}", age)
    verify = f"lockstep backups verify --of {environment}"
    if backups.verified_at is None:
        # A first backup may be younger than the first night that proves it.
        severity = thresholds.verified_backup.judge(age)
        yield from found(severity or Severity.INFO, "verified backup", "none was ever verified", verify, None)
        return
    proven = (server.now - backups.verified_at).total_seconds() * 1_000
    when = f"{backups.verified_at:%Y-%m-%d %H:%M} UTC"
    if not backups.ok:
        yield from found(Severity.CRITICAL, "verified backup", f"the verification of {when} FAILED", verify, proven)
        return
    text = f"the last verification is {format_ms(proven)} old, of {when}"
    yield from found(thresholds.verified_backup.judge(proven), "verified backup", text, verify, proven)
