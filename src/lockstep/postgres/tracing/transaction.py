"""One transaction, put together from looks: what each statement locked, wrote and read, and how long others would wait.

Works on what was seen; asks no server itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lockstep.core.locking.lock_modes import Mode
from lockstep.core.rehearsal.looks import Watched
from lockstep.core.rehearsal.trace import Rewrite, Scan, StatementTrace, TracedLock, Window, Written
from lockstep.postgres.tracing import reasons
from lockstep.postgres.tracing.look import Counts, Look
from lockstep.postgres.tracing.relations import ORDER, ROWS, Relation, Relations


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One statement that went through."""

    index: int  # in its script
    watched: Watched
    start: float  # ms of the transaction's own time before it
    ms: float


@dataclass(slots=True, kw_only=True)
class Transaction:
    """One on its way. Its clock counts what it does itself, not the looking."""

    relations: Relations
    wal: int  # position at its begin
    reasons_told: bool = False  # whether the server tells why it rewrites
    counts: dict[int, Counts] = field(default_factory=dict)  # as of the last look
    clock: float = 0.0  # ms
    statements: list[StatementTrace] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    _unseen: list[Ran] = field(default_factory=list)  # since the last look
    _modes: dict[int, Mode] = field(default_factory=dict)
    _open: dict[tuple[int, Mode], Ran] = field(default_factory=dict)  # windows
    _filenodes: dict[int, int] = field(default_factory=dict)  # that it changed
    _made: dict[int, Relation] = field(default_factory=dict)

    def ran(self, index: int, watched: Watched, ms: float) -> None:
        """A statement went through."""
        self._unseen.append(Ran(index=index, watched=watched, start=self.clock, ms=ms))
        self.clock += ms

    @property
    def due(self) -> bool:
        """Whether there is something to look for, and a look does no harm."""
        if not self._unseen or self._unseen[-1].watched.held_back:
            return False
        return not all(one.watched.quiet for one in self._unseen)

    def saw(self, look: Look | None, sizes: Callable[[Sequence[int]], Mapping[int, int]]) -> None:
        """Take in a look: what is new since the one before is the first unseen statement's that locks anything."""
        unseen, self._unseen = self._unseen, []
        one = next((ran for ran in unseen if not ran.watched.quiet), unseen[0])
        traces = [_plain(ran) for ran in unseen]
        if look is not None:
            traces[unseen.index(one)] = self._trace(one, look, sizes)
        self.statements += traces

    def finished(self, ms: float = 0.0) -> None:
        """It committed, `ms` after the last statement; or was given up."""
        self.clock += ms
        self.statements += [_plain(ran) for ran in self._unseen]
        self._unseen = []
        for key in list(self._open):
            self._close(key)

    def committed(self) -> None:
        """What it made and wrote anew is there for those after it."""
        self.relations.known.update(self._made)
        self.relations.indexes.update(
            {one.name: oid for oid, one in self._made.items() if one.existed and one.kind == "index"}
        )
        for oid, filenode in self._filenodes.items():
            self.relations.known[oid].filenode = filenode

    # -- inside -------------------------------------------------------------------------------------------------------

    def _trace(self, ran: Ran, look: Look, sizes: Callable[[Sequence[int]], Mapping[int, int]]) -> StatementTrace:
        self._meet(look)
        locks = self._locks(ran, look)
        changed = self._changed(look)
        rewrites, emptied = self._rewrites(ran, look, changed, sizes(changed) if changed else {})
        scans: list[Scan] = []
        written: list[Written] = []
        for oid, held in look.held.items():
            relation = self._relation(oid)
            if relation is None or relation.kind not in ROWS:
                continue
            on_top = held.counts.since(self.counts.get(oid, Counts()))
            self.counts[oid] = held.counts
            if relation.existed and (on_top.read or relation.name not in emptied):
                scans += on_top.scanned(relation.name)  # the indexes of what was emptied are built of nothing
            written += on_top.written(relation.name)
        wal, self.wal = look.wal - self.wal, look.wal
        return replace(
            _plain(ran),
            locks=locks,
            rewrites=rewrites,
            emptied=emptied,
            scans=tuple(sorted(scans, key=lambda scan: scan.relation)),
            written=tuple(sorted(written, key=lambda rows: rows.relation)),
            wal=max(0, wal),
        )

    def _relation(self, oid: int) -> Relation | None:
        return self.relations.known.get(oid) or self._made.get(oid)

    def _meet(self, look: Look) -> None:
        """Name what is new. An index that took the place of one of before counts as that one, written anew or not."""
        for oid, held in look.held.items():
            if self._relation(oid) is not None or held.kind is None:
                continue
            self._made[oid] = Relation(
                name=held.name, kind=held.kind, existed=False, filenode=held.filenode, table=held.table
            )
            old = self.relations.predecessor(held.name) if held.kind == "index" else None
            if old is not None and old in look.held and look.held[old].kind is None:
                before = self.relations.known[old]
                filenode = self._filenodes.get(old, before.filenode)
                self._made[oid] = replace(before, filenode=filenode)

    def _locks(self, ran: Ran, look: Look) -> tuple[TracedLock, ...]:
        found: dict[str, TracedLock] = {}
        for oid, held in look.held.items():
            relation, before = self._relation(oid), self._modes.get(oid)
            if relation is None or (before is not None and before.rank >= held.mode.rank):
                continue
            known = found.get(relation.name)
            if known is None or known.mode.rank < held.mode.rank:
                found[relation.name] = TracedLock(
                    relation=relation.name, kind=relation.kind, mode=held.mode, existed=relation.existed
                )
            if relation.existed and held.mode.strong:
                self._open.setdefault((oid, held.mode), ran)
        for oid, mode in list(self._open):
            if oid not in look.held or look.held[oid].mode.rank < mode.rank:
                self._close((oid, mode))  # ROLLBACK TO a savepoint let go of it
        self._modes = {oid: held.mode for oid, held in look.held.items()}
        return tuple(sorted(found.values(), key=lambda one: (-one.mode.rank, ORDER[one.kind], one.relation)))

    def _changed(self, look: Look) -> list[int]:
        """The relations of before whose file is another one than at the last look."""
        found = []
        for oid, held in look.held.items():
            relation = self._relation(oid)
            if relation is None or held.kind is None or not held.filenode:
                continue
            if held.filenode != self._filenodes.get(oid, relation.filenode):
                self._filenodes[oid] = held.filenode
                if relation.existed and relation.kind in ROWS | {"index"}:
                    found.append(oid)
        return found

    def _rewrites(
        self, ran: Ran, look: Look, changed: list[int], sizes: Mapping[int, int]
    ) -> tuple[tuple[Rewrite, ...], tuple[str, ...]]:
        rewrites, emptied = [], set()
        named = {oid: relation for oid in changed if (relation := self._relation(oid)) is not None}
        for oid, relation in named.items():
            if relation.kind == "index":
                continue
            told = oid in look.reasons
            if ran.watched.kind == "TRUNCATE" or (not told and not sizes.get(oid) and ran.watched.kind not in _REASONS):
                emptied.add(oid)
                continue
            reason = _REASONS.get(ran.watched.kind) or (reasons.words(look.reasons[oid]) if told else None)
            if not told and self.reasons_told and ran.watched.kind.startswith("ALTER"):
                reason = "another tablespace"
            rewrites.append(_rewrite(relation, sizes.get(oid, 0), reason))
        for oid, relation in named.items():
            if relation.kind != "index" or relation.table in emptied:
                continue
            reason = _REASONS.get(ran.watched.kind) if ran.watched.kind.startswith("REINDEX") else "built anew"
            rewrites.append(
                _rewrite(
                    relation, sizes.get(oid, 0), "its table is written anew" if relation.table in named else reason
                )
            )
        rewrites.sort(key=lambda one: (ORDER[one.kind], -one.bytes, one.relation))
        return tuple(rewrites), tuple(sorted(named[oid].name for oid in emptied))

    def _close(self, key: tuple[int, Mode]) -> None:
        ran, relation = self._open.pop(key), self._relation(key[0])
        if relation is not None:
            self.windows.append(
                Window(relation=relation.name, mode=key[1], ms=self.clock - ran.start, line=ran.watched.line)
            )


#: Of statements for which the server's event trigger is silent.
_REASONS = {
    "ALTER TABLE": None,
    "ALTER MATERIALIZED VIEW": None,
    "REFRESH MATERIALIZED VIEW": "its query runs anew",
    "CLUSTER": "CLUSTER",
    "VACUUM FULL": "VACUUM FULL",
    "REINDEX INDEX": "REINDEX",
    "REINDEX TABLE": "REINDEX",
    "REINDEX SCHEMA": "REINDEX",
}


def _plain(ran: Ran) -> StatementTrace:
    return StatementTrace(index=ran.index, line=ran.watched.line, kind=ran.watched.kind, ms=ran.ms)


def _rewrite(relation: Relation, size: int, reason: str | None) -> Rewrite:
    return Rewrite(relation=relation.name, kind=relation.kind, bytes=size, reason=reason)
