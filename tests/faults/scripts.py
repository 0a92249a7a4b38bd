"""The migrations of the random faults, as values: what each statement leaves behind can be looked up afterwards. Pure.

Every statement that can leave a mark does: a row with a name of its own in the table `effects`, or an object. From a
script, and from how many of its statements are done, follows what must be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lockstep.core.checksum import checksum, decode

NONE = "-- lockstep: transaction=none\n"
FILL = "-- lockstep: repeat-until-empty batch_pause=1ms\n"
ROWS = 300  # of the table `big`
BATCH = 60

#: The first migration: never taken back.
BASE = (
    "CREATE TABLE effects (tag text NOT NULL);\n"
    "CREATE TABLE big (id int PRIMARY KEY);\n"
    f"INSERT INTO big SELECT g FROM generate_series(1, {ROWS}) g;\n"
    "CREATE TABLE filled (v int NOT NULL, id int NOT NULL);\n"
    "CREATE TABLE checked (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A statement, or a block of them; in a file outside of a transaction what is done as one."""

    sql: str  # with `;`
    statements: int = 1
    tags: tuple[str, ...] = ()  # rows in `effects` that it leaves
    makes: str = ""  # an object that it makes: `table t7`, `index i7_1`, `column c7`
    takes: str = ""  # or one that it drops
    alone: bool = False  # cannot run in a transaction
    doubtful: bool = False  # commits by itself
    fails: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A file as it stands on disk."""

    parts: tuple[Part, ...]
    apart: bool = False  # transaction=none
    fills: int | None = None  # a backfill of this version: fills (or, as a down, empties) its rows
    note: str = ""  # a comment at the end
    verify: str = ""  # its verify script

    @property
    def text(self) -> str:
        head = FILL if self.fills is not None else NONE if self.apart else ""
        return head + "".join(f"{part.sql}\n" for part in self.parts) + (f"-- {self.note}\n" if self.note else "")

    @property
    def checksum(self) -> str:
        return checksum(decode(self.text.encode(), "x.sql"))

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(tag for part in self.parts for tag in part.tags)

    @property
    def fails(self) -> bool:
        return bool(self.verify) or any(part.fails for part in self.parts)

    def mended(self) -> Script:
        """Without what makes it fail."""
        return replace(self, parts=tuple(part for part in self.parts if not part.fails), verify="")

    def done(self, statements: int) -> int:
        """How many parts are done when that many statements are."""
        count = total = 0
        for part in self.parts:
            total += part.statements
            if total > statements:
                break
            count += 1
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a random migration is to look like."""

    kind: str  # transaction, apart, fill, repeatable, repeatable apart
    parts: tuple[str, ...]  # kinds of its parts
    fault: str  # what makes it fail; empty: nothing
    down: str  # transaction, apart, none, fails


KINDS = ("transaction", "transaction", "apart", "apart", "fill", "repeatable", "repeatable apart")
PARTS = ("row", "rows", "slow", "index", "reindex", "vacuum", "set", "commits", "column", "index if")
FAULTS = ("", "", "", "", "", "divides", "at commit", "ends its session", "verify")
DOWNS = ("transaction", "transaction", "transaction", "apart", "apart", "apart", "none", "fails")


def up(shape: Shape, version: int | str, generation: int) -> Script:
    """A script of that shape. `version`: of a repeatable its name."""
    name = f"{version}.{generation}"
    if shape.kind == "fill":
        # fmt: off
        return Script(fills=int(version), note=f"generation {generation}", parts=(Part(sql=(
            f"INSERT INTO filled SELECT {version}, id FROM big WHERE id NOT IN"
            f" (SELECT id FROM filled WHERE v = {version}) ORDER BY id LIMIT {BATCH};")),))
        # fmt: on
    apart = shape.kind.endswith("apart")
    versioned = not shape.kind.startswith("repeatable")
    parts: list[Part] = []
    if versioned:
        parts.append(Part(sql=f"CREATE TABLE t{version} (id int);", makes=f"table t{version}"))
    for number, kind in enumerate(shape.parts):
        parts += _parts(kind, name, version, number, apart=apart, versioned=versioned, before=parts)
    parts.append(_row(f"{name}/end"))
    verify = ""
    match shape.fault:
        case "divides":
            parts.insert(len(parts) // 2 + 1, Part(sql="SELECT 1/0;", fails=True))
        case "at commit":
            parts.append(Part(sql="INSERT INTO checked VALUES (1), (1);", fails=True))
        case "ends its session":
            parts.insert(-1, Part(sql="SELECT pg_terminate_backend(pg_backend_pid());", fails=True))
        case "verify" if versioned:
            verify = "SELECT false AS holds;\n"
    return Script(parts=tuple(parts), apart=apart, verify=verify)


def down(shape: Shape, script: Script, version: int, generation: int) -> Script | None:
    """The way back of a script of `up`."""
    if shape.down == "none":
        return None
    name = f"{version}.{generation}d"
    if script.fills is not None:
        if shape.down == "apart":
            some = f"(SELECT id FROM filled WHERE v = {version} ORDER BY id LIMIT {BATCH})"
            sql = f"DELETE FROM filled WHERE v = {version} AND id IN {some};"
            return Script(fills=version, parts=(Part(sql=sql),), note=name)
        return Script(parts=(Part(sql=f"DELETE FROM filled WHERE v = {version};"), _row(f"{name}/end")))
    made = [part.makes for part in script.parts if part.makes]
    apart = shape.down == "apart"
    parts = [_row(f"{name}/begin")]
    for thing in reversed(made):
        kind, what = thing.split()
        sql = f"ALTER TABLE big DROP COLUMN {what};" if kind == "column" else f"DROP {kind.upper()} {what};"
        if kind == "index" and apart:
            sql = f"DROP INDEX CONCURRENTLY {what};"
        parts.append(Part(sql=sql, takes=thing, alone=kind == "index" and apart))
    if shape.down == "fails":
        parts.append(Part(sql="SELECT 1/0;", fails=True))
    parts.append(_row(f"{name}/end"))
    return Script(parts=tuple(parts), apart=apart)


def _row(tag: str) -> Part:
    return Part(sql=f"INSERT INTO effects VALUES ('{tag}');", tags=(tag,))


def _parts(
    kind: str,
    name: str,
    version: int | str,
    number: int,
    *,
    apart: bool,
    versioned: bool,
    before: Sequence[Part],
) -> list[Part]:
    tag = f"{name}/{number}"
    indexes = [part.makes.split()[1] for part in before if part.makes.startswith("index")]
    match kind:
        case "row":
            return [_row(tag)]
        case "rows" if apart:
            sql = (
                f"BEGIN;\nINSERT INTO effects VALUES ('{tag}a');\nSELECT pg_sleep(0.01);\n"
                f"INSERT INTO effects VALUES ('{tag}b');\nCOMMIT;"
            )
            return [Part(sql=sql, statements=5, tags=(f"{tag}a", f"{tag}b"))]
        case "rows":
            return [_row(f"{tag}a"), _row(f"{tag}b")]
        case "slow":
            return [Part(sql="SELECT pg_sleep(0.03);"), _row(tag)]
        case "index" | "index if" if versioned:
            how = ("CONCURRENTLY IF NOT EXISTS" if kind == "index if" else "CONCURRENTLY") if apart else ""
            what = f"i{version}_{number}"
            return [Part(sql=f"CREATE INDEX {how} {what} ON big (id);", makes=f"index {what}", alone=apart)]
        case "reindex" if apart and indexes:
            return [Part(sql=f"REINDEX INDEX CONCURRENTLY {indexes[-1]};", alone=True)]
        case "vacuum" if apart:
            return [Part(sql="VACUUM effects;", alone=True)]
        case "set":
            held = f"INSERT INTO effects SELECT '{tag}' WHERE current_setting('work_mem') = '8MB';"
            return [Part(sql="SET work_mem = '8MB';"), Part(sql=held, tags=(tag,))]
        case "commits" if apart and versioned:
            sql = f"DO $$ BEGIN INSERT INTO effects VALUES ('{tag}'); COMMIT; END $$;"
            return [Part(sql=sql, tags=(tag,), alone=True, doubtful=True)]
        case "column" if versioned and not any(part.makes.startswith("column") for part in before):
            return [Part(sql=f"ALTER TABLE big ADD COLUMN c{version} int;", makes=f"column c{version}")]
        case _:
            return [_row(tag)]
