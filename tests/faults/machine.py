"""The state machine that hypothesis drives: random files, random commands, random faults.

No rule depends on what a fault left behind: everything is drawn beforehand, and what does not apply is passed over. So a
seed repeats the same files, commands and faults, though not the same moments to the microsecond.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from traceback import format_exc
from typing import ClassVar, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.faults.attacks import KINDS as KINDS_OF_BLOWS
from tests.faults.attacks import Attack, Blow
from tests.faults.evidence import look
from tests.faults.scripts import DOWNS, FAULTS, KINDS, PARTS, Shape
from tests.faults.world import World

SHAPES = st.builds(
    Shape,
    kind=st.sampled_from(KINDS),
    parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map(tuple),
    fault=st.sampled_from(("", "", "", "", "", *FAULTS)),
    down=st.sampled_from(DOWNS),
)
NEW = st.lists(SHAPES, min_size=1, max_size=3)
PICKS = st.integers(0, 10_000)
MOMENTS = st.integers(0, 1_000).map(lambda n: n / 1_000)


def blows(*kinds: str) -> st.SearchStrategy[list[Blow]]:
    """One to three faults, one after the other: on a run, and on those that are to finish its work."""
    return st.lists(blow(*kinds), min_size=1, max_size=3)


def blow(*kinds: str) -> st.SearchStrategy[Blow]:
    """One fault."""
    in_the_way = st.sampled_from((False, False, True))
    return st.builds(Blow, kind=st.sampled_from(kinds), at=MOMENTS, detail=PICKS, in_the_way=in_the_way)


BLOW = blow(*KINDS_OF_BLOWS)
#: For what a person does by hand as well: a second run would meet a half done thing, which is that person's mistake.
UNSEEN = blow(*(kind for kind in KINDS_OF_BLOWS if kind != "beside_another"))


ANY = blows(*KINDS_OF_BLOWS, "killed", "line_cut", "black_hole", "beside_another")
PROCESS = blows("killed", "killed", "terminated", "interrupted", "beside_another")
LINE = blows("line_cut", "line_cut", "black_hole")
SERVER = blows("cancelled", "session_ended", "server_crashed", "server_restarted")
QUICK = 7  # the first goes alone, then two and four
SYNCS = st.sampled_from(("sync", "sync", "sync --wait", "sync --to", "sync all"))
REVERTS = st.sampled_from(("revert", "revert --to"))
EDITS = st.one_of(st.none(), st.none(), SHAPES)


class Enough(KeyboardInterrupt):
    """There were faults enough, or time is over. Hypothesis lets only this through at once."""


class Worlds(Protocol):
    """What makes a world on a fresh database, and knows when it is enough."""

    def make(self) -> World: ...
    @property
    def enough(self) -> bool: ...


class Machine(RuleBasedStateMachine):
    """Work on one database."""

    worlds: ClassVar[Worlds]  # set by the test

    def __init__(self) -> None:
        super().__init__()
        if self.worlds.enough:
            raise Enough
        self.world = self.worlds.make()
        self.failed = False

    def strike(self, command: str, new: list[Shape], under: list[Blow], pick: int, edit: Shape | None) -> None:
        """Let a command run, with something to do, and something happen to it; then again."""
        world = self.world
        if self.worlds.enough:
            return
        with self.told():
            if edit is not None:
                world.edit(pick, edit)
            if pick % 4:
                world.mend()
                world.settle_doubts()
            for shape in new:
                world.add(shape)
            if pick % 3 == 0:  # quick ones in a row, which travel in one message
                for _ in range(QUICK):
                    world.add(Shape(kind="transaction", parts=("row",), fault="", down="transaction"))
            if command.startswith("re") and pick % 8:  # there is something to take back
                world.mend()
                world.clean(*world.all_of_it())
            for blow in under:
                Attack(world=world, words=self._words(command, pick), blow=blow).carry_out()

    @contextmanager
    def told(self) -> Iterator[None]:
        """What fails is not settled afterwards: it would only fail again."""
        try:
            yield
        except BaseException:
            self.failed = True
            self.world.tally.failures.append(format_exc())
            raise

    def _words(self, command: str, pick: int) -> tuple[str, ...]:
        ledger = look(self.world.project.urls["dev"]).ledger
        versions = list(self.world.versions) or [1]
        there = [v for v in versions if f"{v:03d}-m.sql" in ledger]
        match command.split():
            case ["sync"]:
                return ("sync", "dev", "--json")
            case ["sync", "--wait"]:
                return ("sync", "dev", "--json", "--wait")
            case ["sync", "--to"]:
                return ("sync", "dev", "--json", "--to", str(versions[pick % len(versions)]))
            case ["sync", "all"]:
                return self.world.all_of_it()
            case ["revert"]:
                return ("revert", "dev", "--steps", str(min(1 + pick % 3, max(1, len(there)))))
            case ["revert", _]:
                return ("revert", "dev", "--to", str([1, *there][pick % (len(there) + 1)]))
            case _:
                return ("repair", "dev")

    @initialize(under=st.one_of(st.none(), BLOW))
    def begin(self, under: Blow | None) -> None:
        """The ledger is made, whatever happens to that; then the first migration is applied."""
        with self.told():
            if under is not None:
                Attack(world=self.world, words=("init", "dev"), blow=under).happen()
            self.world.begin()

    @rule(what=st.sampled_from(("record", "record and undo", "forget")), under=UNSEEN, pick=PICKS, shape=SHAPES)
    def correct_by_hand(self, what: str, under: Blow, pick: int, shape: Shape) -> None:
        """Somebody runs a file by hand and records it, or removes what a file made and its entry."""
        with self.told():
            self.world.mend()
            self.world.settle_doubts()
            if what == "forget":
                self._forget(under, pick)
            else:
                self._record(under, shape, undo="undo" in what)

    def _record(self, under: Blow, shape: Shape, *, undo: bool) -> None:
        world = self.world
        kind = shape.kind if not shape.kind.startswith("repeatable") else "apart"
        world.add(replace(shape, kind=kind, fault=""))
        version = max(world.versions)
        world.run_by_hand(version)
        self._until_it_is_so(under, version, "--record", str(version), there=True)
        world.check()
        if undo:
            seen = look(world.project.urls["dev"])
            event = max(e["id"] for e in seen.log if e["event"] == "repair" and e["version"] == version)
            self._until_it_is_so(under, version, "--undo", str(event), there=False)
            world.take_back_by_hand(version, world.versions[version].script)
            world.check()

    def _forget(self, under: Blow, pick: int) -> None:
        world = self.world
        ledger = look(world.project.urls["dev"]).ledger
        there = [v for v in world.versions if ledger.get(f"{v:03d}-m.sql", {}).get("state") == "applied"]
        if not there:
            return
        version = there[pick % len(there)]
        script = world.books.ups[ledger[f"{version:03d}-m.sql"]["checksum"]]
        self._until_it_is_so(under, version, "--forget", str(version), there=False)
        world.take_back_by_hand(version, script)
        world.check()

    def _until_it_is_so(self, under: Blow, version: int, *words: str, there: bool) -> None:
        world, name = self.world, f"{version:03d}-m.sql"
        Attack(world=world, words=("repair", "dev", *words), blow=under).happen()
        if (name in look(world.project.urls["dev"]).ledger) != there and world.clean("repair", "dev", *words) != 0:
            world.fail("a correction was refused")

    @rule(command=SYNCS, new=NEW, under=ANY, pick=PICKS, edit=EDITS)
    def sync_under_anything(
        self, command: str, new: list[Shape], under: list[Blow], pick: int, edit: Shape | None
    ) -> None:
        self.strike(command, new, under, pick, edit)

    @rule(command=SYNCS, new=NEW, under=PROCESS, pick=PICKS, edit=EDITS)
    def sync_that_is_killed(
        self, command: str, new: list[Shape], under: list[Blow], pick: int, edit: Shape | None
    ) -> None:
        self.strike(command, new, under, pick, edit)

    @rule(command=SYNCS, new=NEW, under=LINE, pick=PICKS, edit=EDITS)
    def sync_that_loses_its_line(
        self, command: str, new: list[Shape], under: list[Blow], pick: int, edit: Shape | None
    ) -> None:
        self.strike(command, new, under, pick, edit)

    @rule(command=SYNCS, new=NEW, under=SERVER, pick=PICKS, edit=EDITS)
    def sync_that_loses_its_server(
        self, command: str, new: list[Shape], under: list[Blow], pick: int, edit: Shape | None
    ) -> None:
        self.strike(command, new, under, pick, edit)

    @rule(command=REVERTS, new=NEW, under=ANY, pick=PICKS, edit=EDITS)
    def revert_under_anything(
        self, command: str, new: list[Shape], under: list[Blow], pick: int, edit: Shape | None
    ) -> None:
        self.strike(command, new, under, pick, edit)

    @rule(command=REVERTS, new=NEW, under=blows("killed", "line_cut"), pick=PICKS, edit=EDITS)
    def revert_that_is_cut_off(
        self, command: str, new: list[Shape], under: list[Blow], pick: int, edit: Shape | None
    ) -> None:
        self.strike(command, new, under, pick, edit)

    @rule(new=NEW, under=ANY, pick=PICKS, edit=SHAPES)
    def repair_under_anything(self, new: list[Shape], under: list[Blow], pick: int, edit: Shape) -> None:
        self.strike("repair", new, under[:1], pick, edit)

    def teardown(self) -> None:
        if not self.failed:
            with self.told():
                self.world.finish()
