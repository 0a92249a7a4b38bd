"""What a health check reads of a server, row by row: the columns of the .sql files in postgres/health, as values.

Sizes are bytes, durations milliseconds, ages of transactions a number of transactions. They judge nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from lockstep.core.contents import Contents
from lockstep.core.health.names import quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """server.sql"""

    database: str
    role: str  # the effective one
    schemas: list[str]  # all there are
    owners: list[str]  # theirs, in the same order
    now: datetime
    standby: bool
    sees_sessions: bool  # the role has pg_read_all_stats
    max_connections: int
    reserved_connections: int  # for superusers and the like
    connections: int  # in all databases
    autovacuum: bool  # with the counters that it needs
    fsync: bool
    full_page_writes: bool
    checksums: bool
    freeze_max_age: int
    multixact_freeze_max_age: int
    statistics_since: datetime | None  # when the counters began; None: not known
    archiving: bool
    archived_count: int
    failed_count: int
    last_archived_time: datetime | None
    last_failed_time: datetime | None
    last_failed_wal: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """databases.sql"""

    name: str
    current: bool | None  # None: the shared objects
    xid_age: int | None
    multixact_age: int | None
    checksum_failures: int | None  # None: the server has no checksums
    checksum_last_failure: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OldTable:
    """oldest_tables.sql"""

    name: str  # quoted
    xid_age: int
    multixact_age: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """indexes.sql"""

    schema: str
    table: str
    name: str
    table_oid: int
    kind: str  # i, or I of a partitioned table
    method: str  # btree, gin, …
    valid: bool
    building: bool  # somebody builds it right now
    unique: bool
    primary: bool
    exclusion: bool
    replica_identity: bool
    immediate: bool
    nulls_not_distinct: bool
    constraint: bool  # primary key, unique or exclusion constraint
    referenced: bool  # a foreign key relies on it
    attached: bool  # to the index of a partitioned table
    keys: int  # columns that it is ordered by; the others are included
    columns: list[int]  # 0: an expression
    classes: list[str]
    collations: list[str]
    options: list[str]
    expressions: str | None
    predicate: str | None
    scans: int
    size: int

    @property
    def sql(self) -> str:
        return quoted(self.schema, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """constraints.sql"""

    schema: str
    table: str
    name: str
    table_oid: int
    foreign: bool
    valid: bool
    columns: list[int] | None
    column_names: list[str]
    references: str | None  # quoted; of a foreign key
    partitioned: bool
    table_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """sequences.sql, with the first of sequence_feeds.sql."""

    schema: str
    name: str
    oid: int
    minimum: int
    maximum: int
    increment: int
    cycles: bool
    readable: bool  # the role may ask for its value
    table_schema: str | None = None  # of the column that it feeds
    table: str | None = None
    column: str | None = None
    type: str | None = None
    table_oid: int | None = None
    attnum: int | None = None
    inserted: int = 0  # rows into that table since the counters began


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceFeed:
    """sequence_feeds.sql: a column that a sequence feeds."""

    sequence: int  # oid
    table_schema: str
    table: str
    column: str
    type: str
    table_oid: int
    attnum: int
    inserted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NarrowColumn:
    """narrow_columns.sql"""

    table_oid: int  # whose column it refers to
    attnum: int
    name: str  # its own, quoted
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceValue:
    """sequence_values.sql"""

    oid: int
    value: int | None  # None: never used


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """tables.sql"""

    schema: str
    name: str
    oid: int
    kind: str  # r, p (partitioned), m (materialised view)
    partition: bool
    rows: int  # as last counted
    size: int
    live: int
    dead: int
    changed: int  # since it was analysed
    analyzed_at: datetime | None
    vacuumed_at: datetime | None
    ever_counted: bool
    autovacuum_off: bool
    has_key: bool
    identified: bool  # its replica identity tells rows apart
    published: bool  # its updates or deletes are

    @property
    def sql(self) -> str:
        return quoted(self.schema, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSize:
    """sizes.sql"""

    oid: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """triggers.sql"""

    schema: str
    table: str
    name: str  # of a foreign key: its constraint
    foreign_key: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSession:
    """sessions.sql"""

    pid: int
    user: str | None
    application: str | None
    state: str | None  # None: hidden
    hidden: bool
    transaction_ms: int | None  # since its transaction began
    state_ms: int | None  # in its state

    @property
    def who(self) -> str:
        words = [f"user {self.user}" if self.user else "", self.application or ""]
        return f"pid {self.pid} ({', '.join(word for word in words if word)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """blocked.sql"""

    pid: int
    user: str | None
    application: str | None
    waiting_ms: int | None
    relation: str | None  # quoted
    blockers: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """prepared.sql"""

    id: str
    owner: str
    database: str
    prepared_ms: int
    xid_age: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """replicas.sql"""

    name: str
    address: str | None
    hidden: bool
    state: str | None
    behind: int | None
    lag_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """slots.sql"""

    name: str
    type: str
    database: str | None
    active: bool
    wal_status: str | None
    retained: int | None
    xid_age: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupAges:
    """What the audit log knows of the environment's backups."""

    taken_at: datetime | None
    verified_at: datetime | None
    ok: bool  # False: the newest verification failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The database as it was when a backup was taken: what rates are reckoned from."""

    backup: str  # id
    taken_at: datetime
    contents: Contents
    entries: int | None = None  # of the ledger in it; None: there was none


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that was read of one environment. None: that part could not be read; `postgres.health` says why."""

    server: Server | None = None
    databases: tuple[Database, ...] | None = None
    oldest_tables: tuple[OldTable, ...] | None = None
    indexes: tuple[Index, ...] | None = None
    constraints: tuple[Constraint, ...] | None = None
    sequences: tuple[Sequence, ...] | None = None
    sequence_values: tuple[SequenceValue, ...] | None = None
    narrow_columns: tuple[NarrowColumn, ...] | None = None  # narrowest first
    tables: tuple[Table, ...] | None = None
    sizes: tuple[TableSize, ...] | None = None  # also None without an earlier observation
    triggers: tuple[Trigger, ...] | None = None
    sessions: tuple[ClientSession, ...] | None = None
    blocked: tuple[Blocked, ...] | None = None
    prepared: tuple[Prepared, ...] | None = None
    replicas: tuple[Replica, ...] | None = None
    slots: tuple[Slot, ...] | None = None
    backups: BackupAges | None = None  # also None where the environment is not protected
    earlier: Earlier | None = field(default=None, repr=False)
