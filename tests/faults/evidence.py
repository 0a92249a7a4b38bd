"""What a database shows of what was done to it, read in one snapshot, and what it must show by its ledger and audit log.

A migration's rows are written with what it did, so this holds at every moment, whatever is being killed at it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.faults.scripts import ROWS, Script


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One snapshot."""

    ledger: dict[str, dict[str, Any]]  # by file name
    log: list[dict[str, Any]]  # in order
    tags: Counter[str]  # rows in `effects`
    objects: dict[str, bool]  # `index i7_1` -> whether it is valid
    filled: dict[int, tuple[int, int, int]]  # version -> (rows, different ones, transactions that wrote them)
    invalid: list[str]  # indexes


def look(url: str) -> Seen:
    """Read everything in one snapshot."""
    with psycopg.connect(url, application_name="the-tests") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

        def rows(text: str) -> list[tuple[Any, ...]]:
            return connection.execute(text.encode()).fetchall()

        def table(name: str, order: str) -> list[dict[str, Any]]:
            cursor = connection.execute(f"SELECT * FROM {name} ORDER BY {order}".encode())
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor]

        ((ready, based),) = rows(
            "SELECT to_regclass('schema_migrations') IS NOT NULL, to_regclass('effects') IS NOT NULL"
        )
        objects: dict[str, bool] = {}
        kinds = "'t[0-9]+'", "'i[0-9]+_[0-9]+'"
        for name, kind, valid in rows(
            "SELECT c.relname::text, c.relkind, coalesce(i.indisvalid AND i.indisready AND i.indislive, true)"
            " FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid"
            f" WHERE c.relnamespace = 'public'::regnamespace AND c.relname ~ ('^(' || {kinds[0]} || '|' || {kinds[1]} || ')$')"
        ):
            objects[f"{'table' if kind == 'r' else 'index'} {name}"] = valid
        for (name,) in rows(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass('big') AND attname ~ '^c[0-9]+$'"
        ):
            objects[f"column {name}"] = True
        filled = (
            "SELECT v, count(*), count(DISTINCT id), count(DISTINCT xmin::text) FROM filled GROUP BY v" if based else ""
        )
        return Seen(
            ledger={row["migration_name"]: row for row in table("schema_migrations", "1")} if ready else {},
            log=table("schema_migrations_log", "id") if ready else [],
            tags=Counter(dict(rows("SELECT tag, count(*) FROM effects GROUP BY tag")) if based else {}),
            objects=objects,
            filled={v: (n, d, x) for v, n, d, x in rows(filled)} if filled else {},
            invalid=[n for (n,) in rows("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")],
        )


@dataclass(kw_only=True)
class Books:
    """What the tests know of the files: all that ever stood on disk, and what was done by hand."""

    ups: dict[str, Script] = field(default_factory=dict)  # checksum -> script
    downs: dict[str, Script] = field(default_factory=dict)
    by_hand: Counter[str] = field(default_factory=Counter)  # rows in `effects` that no run explains

    def problems(self, seen: Seen) -> list[str]:
        """What is there and must not be, or is not and must."""
        return [*self._rows(seen), *self._objects(seen), *self._filled(seen), *_states(seen)]

    def _rows(self, seen: Seen) -> list[str]:
        exact, loose = Counter(self.by_hand), Counter[str]()  # loose: that many more may be there
        for event in seen.log:
            details = event["details"] or {}
            if event["event"] == "apply" and event["migration_name"] != "001-base.sql":
                script = self.ups[details["checksum"]]
                exact.update(script.tags)
                if event["version"] is None and script.apart:
                    loose.update(dict.fromkeys(script.tags, 1_000))  # it may have begun anew any number of times
            elif event["event"] == "revert":
                exact.update(self.downs[details["down_checksum"]].tags)
        for name, entry in seen.ledger.items():
            if entry["state"] == "applied" or entry["progress"] is None:
                continue
            script = self.begun(seen, name)
            done = script.done(entry["statements_done"] or 0)
            for part in script.parts[:done]:
                exact.update(part.tags)
            if entry["version"] is None:
                loose.update(dict.fromkeys(script.tags, 1_000))
            elif entry["progress"]["attempted"]:
                loose.update(script.parts[done].tags if done < len(script.parts) else ())
        found = []
        for tag in sorted({*exact, *seen.tags}):
            low, high = exact[tag], exact[tag] + loose[tag]
            if not low <= seen.tags[tag] <= high:
                found.append(f"effect {tag} is there {seen.tags[tag]} times, and must be {low} to {high} times")
        return found

    def begun(self, seen: Seen, name: str) -> Script:
        """The script that an unfinished entry is at."""
        entry = seen.ledger[name]
        if not entry["progress"]["reverting"]:
            key = entry["checksum"]
            if key is None:  # a repeatable that something was reverted under
                key = next(
                    e["details"]["checksum"]
                    for e in reversed(seen.log)
                    if e["migration_name"] == name and e["event"] in {"start", "resume"}
                )
            return self.ups[key]
        begun = [
            e["details"]["down_checksum"]
            for e in seen.log
            if e["migration_name"] == name and e["event"] in {"start", "resume"} and "down_checksum" in e["details"]
        ]
        return self.downs[begun[-1]]

    def _objects(self, seen: Seen) -> list[str]:
        must: dict[str, bool | None] = {}  # None: nobody can tell
        for name, entry in seen.ledger.items():
            if entry["version"] in (None, 1):
                continue
            up = self.ups[entry["checksum"]]
            made = {part.makes for part in up.parts if part.makes}
            if entry["state"] == "applied":
                must |= dict.fromkeys(made, True)
                continue
            script = self.begun(seen, name)
            done = script.done(entry["statements_done"] or 0)
            reverting = entry["progress"]["reverting"]
            must |= dict.fromkeys(made, reverting)
            for part in script.parts[:done]:
                for thing, there in ((part.makes, True), (part.takes, False)):
                    if thing:
                        must[thing] = there
            if entry["progress"]["attempted"] and done < len(script.parts):
                part = script.parts[done]
                for thing in filter(None, (part.makes, part.takes)):
                    must[thing] = None
        found = []
        for thing in sorted({*must, *seen.objects}):
            expected, valid = must.get(thing, False), seen.objects.get(thing)
            if expected is None:
                continue
            if expected and not valid:
                found.append(f"{thing} is {'missing' if valid is None else 'invalid'}, and the ledger says it is there")
            if not expected and valid is not None:
                found.append(f"{thing} is there, and the ledger does not say so")
        return found

    def _filled(self, seen: Seen) -> list[str]:
        found = []
        entries = {entry["version"]: entry for entry in seen.ledger.values()}
        versions = {script.fills for script in self.ups.values() if script.fills is not None}
        for version in sorted(versions):
            rows, different, transactions = seen.filled.get(version, (0, 0, 0))
            entry = entries.get(version)
            if rows != different:
                found.append(f"backfill {version} touched rows twice: {rows} of {different}")
            if entry is None and rows:
                found.append(f"backfill {version} left {rows} rows, and has no entry")
            if entry is not None and self.ups[entry["checksum"]].fills is not None:
                if entry["state"] == "applied" and rows != ROWS:
                    found.append(f"backfill {version} is applied, and {rows} of {ROWS} rows are done")
                if entry["state"] != "applied" and not entry["progress"]["reverting"]:
                    batches = entry["progress"]["batches"]
                    more = sum(1 for e in seen.log if e["version"] == version and e["event"] in {"start", "resume"})
                    if not transactions <= batches <= transactions + more:
                        found.append(f"backfill {version} says {batches} batches, and {transactions} were committed")
        return found


def _states(seen: Seen) -> list[str]:
    found = []
    for name, entry in seen.ledger.items():
        if (entry["state"] == "applied") != (entry["progress"] is None):
            found.append(f"{name} is {entry['state']}, with progress {entry['progress']}")
    return found


def names(steps: list[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Of a plan's steps: (file name, checksum)."""
    return [(step["migration_name"], step["checksum"]) for step in steps]
