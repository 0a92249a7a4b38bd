"""A project folder of random migrations, and whoever writes in it: files are added, edited whatever state they are in, and
in the end mended. Whatever stood on disk is kept in the books."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from tests.faults import scripts
from tests.faults.evidence import Books, Seen, look
from tests.faults.scripts import BASE, Script, Shape
from tests.project import Project


@dataclass(kw_only=True)
class Tally:
    """What happened, over all databases."""

    faults: Counter[str] = field(default_factory=Counter)  # by kind: those that hit a run at work
    missed: int = 0  # came before or after
    databases: int = 0
    migrations: int = 0
    applied: int = 0  # events of the audit logs
    reverted: int = 0
    slowest: float = 0.0  # seconds until the last session of a run was gone
    failures: list[str] = field(default_factory=list)  # hypothesis may hide one behind an error of its own
    invalid: int = 0  # times that a fault left an invalid index

    @property
    def hits(self) -> int:
        return self.faults.total()

    @property
    def text(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.faults.most_common())
        return (
            f"random faults: {self.hits} that hit a run at work ({kinds}), {self.missed} that missed, on "
            f"{self.databases} databases with {self.applied} migrations applied and {self.reverted} taken back; "
            f"{self.invalid} left an invalid index; sessions gone after {self.slowest:.2f} s at most"
        )


@dataclass(kw_only=True)
class OnDisk:
    """A migration as its files are now."""

    shape: Shape
    script: Script
    down: Script | None = None
    generation: int = 0


@dataclass(kw_only=True)
class Files:
    """A folder, and what is known of it."""

    project: Project
    tally: Tally
    versions: dict[int, OnDisk] = field(default_factory=dict)
    repeatables: dict[str, OnDisk] = field(default_factory=dict)
    books: Books = field(default_factory=Books)
    ways_back: dict[tuple[int | str, tuple[str, ...]], Script | None] = field(
        default_factory=dict
    )  # by a script's marks
    story: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        base = Script(parts=(scripts.Part(sql=BASE),))
        self.project.write("001-base.sql", base.text)
        self.books.ups[base.checksum] = base
        self.tally.databases += 1

    def note(self, text: str) -> None:
        """One more line of what happened."""
        self.story.append(f"{time.monotonic() - self.began:6.2f} s  {text.rstrip()}")

    def add(self, shape: Shape) -> None:
        """A new migration in the folder."""
        if shape.kind.startswith("repeatable"):
            name = f"r{len(self.repeatables)}"
            if len(self.repeatables) >= 3:
                name = f"r{len(self.story) % 3}"
            generation = self.repeatables[name].generation + 1 if name in self.repeatables else 0
            self.repeatables[name] = OnDisk(
                shape=shape, script=scripts.up(shape, name, generation), generation=generation
            )
            self.note(f"file {name}: {shape}")
        else:
            version = max(self.versions, default=1) + 1
            script = scripts.up(shape, version, 0)
            self.versions[version] = OnDisk(shape=shape, script=script, down=scripts.down(shape, script, version, 0))
            self.note(f"file {version}: {shape}")
        self.tally.migrations += 1
        self.write()

    @property
    def everything(self) -> list[tuple[int | str, OnDisk]]:
        """All of the folder, by version or name."""
        return [*self.versions.items(), *self.repeatables.items()]

    def write(self) -> None:
        """Bring the folder to what it is meant to be."""
        folder = self.project.folder / "migrations"
        wanted: dict[str, str] = {"001-base.sql": BASE + "\n"}
        for version, one in self.versions.items():
            stem = f"{version:03d}-m"
            wanted[f"{stem}.sql"] = one.script.text
            self.ways_back.setdefault((version, one.script.tags), one.down)
            self.books.ups[one.script.checksum] = one.script
            if one.down is not None:
                wanted[f"{stem}.down.sql"] = one.down.text
                self.books.downs[one.down.checksum] = one.down
            if one.script.verify:
                wanted[f"{stem}.verify.sql"] = one.script.verify
        for name, one in self.repeatables.items():
            wanted[f"repeatable/{name}.sql"] = one.script.text
            self.books.ups[one.script.checksum] = one.script
        for path in folder.rglob("*.sql"):
            if str(path.relative_to(folder)) not in wanted:
                path.unlink()
        for name, text in wanted.items():
            path = folder / name
            if not path.exists() or path.read_text() != text:
                self.project.write(name, text)

    def edit(self, pick: int, shape: Shape) -> None:
        """Somebody edits a file, whatever state it is in. What must not be changed is put back by `mend`."""
        if not self.everything:
            return
        key, one = self.everything[pick % len(self.everything)]
        how = ("another text", "a comment", "its down", "no down")[pick // 7 % 4]
        one.generation += 1
        if how == "a comment":
            one.script = replace(one.script, note=f"reformatted {one.generation}")
        elif how == "another text" or isinstance(key, str):
            kind = one.shape.kind if isinstance(key, str) else shape.kind
            one.shape = replace(shape, kind=kind if not isinstance(key, str) else one.shape.kind)
            if isinstance(key, int) and one.shape.kind.startswith("repeatable"):
                one.shape = replace(one.shape, kind="transaction")
            one.script = scripts.up(one.shape, key, one.generation)
            if isinstance(key, int):
                one.down = scripts.down(one.shape, one.script, key, one.generation)
        elif how == "its down" and isinstance(key, int):
            # Of what is applied: a down for another text would be a mistake of the file's author.
            one.down = scripts.down(replace(one.shape, down=shape.down), self._up_of(key), key, one.generation)
        else:
            one.down = None
        self.note(f"edit {key}: {how}, {shape}")
        self.write()

    def _up_of(self, version: int) -> Script:
        entry = self._entry(look(self.project.urls["dev"]), version)
        return self.versions[version].script if entry is None else self.books.ups[entry["checksum"]]

    def _entry(self, seen: Seen, key: int | str) -> dict[str, Any] | None:
        return seen.ledger.get(f"{key:03d}-m.sql" if isinstance(key, int) else f"repeatable/{key}.sql")

    def mend(self) -> None:
        """A person puts back what must not have been changed, and takes out what fails."""
        seen = look(self.project.urls["dev"])
        for key, one in self.everything:
            entry = self._entry(seen, key)
            script = one.script
            if entry is None or (isinstance(key, str) and entry["state"] == "applied"):
                script = script.mended()
            elif entry["state"] == "applied":
                script = self.books.ups[entry["checksum"]]
            elif entry["progress"] is not None and not entry["progress"]["reverting"]:
                script = self.books.begun(seen, entry["migration_name"]).mended()
            elif entry["progress"] is not None:
                script = self.books.ups[entry["checksum"]]
                one.down = self.books.begun(seen, entry["migration_name"])
            if script.parts != one.script.parts and not (entry and (entry["progress"] or {}).get("reverting")):
                one.down = self.ways_back.get((key, script.tags), one.down)  # that of another text does not fit
            if script.parts != one.script.parts or script.verify != one.script.verify:
                one.script = script
            if one.down is not None:
                one.down = one.down.mended()
        self.note("everything is mended")
        self.write()
