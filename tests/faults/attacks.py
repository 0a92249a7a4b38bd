"""The faults: each lets one or two runs begin, and does something to them at a random moment or byte."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg

from tests.faults.evidence import look
from tests.faults.starter import Runner
from tests.faults.world import FORESEEN, World
from tests.integration.proxy import CountingProxy

IN_THE_WAY = 1.5  # seconds at most
SIGNALS = {"killed": signal.SIGKILL, "terminated": signal.SIGTERM, "interrupted": signal.SIGINT}
SIGNALLED = {"killed": {-9}, "terminated": {143, -15}, "interrupted": {130, -2}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """A fault, and when it comes: parts of the way through a run, of its time or of its bytes."""

    kind: str
    at: float  # 0 to 1
    detail: int = 0  # picks a form of it
    in_the_way: bool = False  # somebody has written to the large table, and ends the transaction a little later


@dataclass(kw_only=True)
class Attack:
    """One fault on its way."""

    world: World
    words: Sequence[str]
    blow: Blow
    steps: int = 0  # of the plan

    def carry_out(self) -> None:
        """Let it happen, wait until it is over, and look at what came of it."""
        world = self.world
        plain = self.words[0] == "sync"
        plan = world.shown(self.words) if plain else None
        if plain and not plan:  # held or refused: all of it has something to do, perhaps
            self.words = world.all_of_it()
            plan = world.shown(self.words)
        self.steps = len(plan) if plan is not None else 0 if self.words[0] == "repair" else 1
        before = look(world.project.urls["dev"])
        last = before.log[-1]["id"] if before.log else 0
        world.note(f"{' '.join(self.words)}, {self.blow}; plan: {plan}")
        self.happen()
        seen = world.check()
        world.tally.invalid += bool(seen.invalid)
        if plain:
            ran = [
                (e["migration_name"], e["details"]["checksum"])
                for e in seen.log if e["id"] > last and e["event"] == "apply"
            ]  # fmt: skip
            if ran != (plan or [])[: len(ran)]:
                world.fail(f"what ran is not what was shown: {ran}, and the plan was {plan}")

    def happen(self) -> None:
        """The blow alone, without a look at what came of it."""
        world = self.world
        with self._somebody_in_the_way():
            hit = getattr(self, f"_{self.blow.kind}")()
        if hit:
            world.tally.faults[self.blow.kind.replace("_", " ")] += 1
        else:
            world.tally.missed += 1
        world.note(f"  it {'hit' if hit else 'missed'}")
        world.quiet()

    @contextmanager
    def _somebody_in_the_way(self) -> Iterator[None]:
        """A build of an index waits for who writes; a change in a transaction is tried again."""
        if not self.blow.in_the_way:
            yield
            return
        connection = psycopg.connect(self.world.project.urls["dev"], application_name="somebody")
        if connection.execute("SELECT to_regclass('big')").fetchone() != (None,):
            connection.execute("LOCK TABLE big IN ROW EXCLUSIVE MODE")

        def end() -> None:
            with suppress(psycopg.Error):  # the server was restarted
                connection.rollback()

        timer = threading.Timer(self._in_the_way, end)
        timer.start()
        try:
            yield
        finally:
            timer.join()
            connection.close()

    @property
    def _in_the_way(self) -> float:
        return IN_THE_WAY * (1 + self.blow.detail % 10) / 10

    # -- moments -------------------------------------------------------------------------------------------------------

    @property
    def _span(self) -> float:
        longer = self._in_the_way if self.blow.in_the_way else 0.0
        return self.world.pace.seconds + self.steps * self.world.pace.seconds_each + longer

    def _pause(self) -> None:
        time.sleep(0.9 * self.blow.at * self._span)

    def _byte(self) -> tuple[str, int]:
        who = ("client", "server")[self.blow.detail % 2]
        pace = self.world.pace
        return who, 1 + int(self.blow.at * (pace.bytes[who] + self.steps * pace.bytes_each[who]))

    def _ends(self, runner: Runner, *more: int) -> int:
        code = self.world.end(runner, codes=FORESEEN | set(more))
        if code >= 0:
            self.world.claims(runner)
        return code

    # -- the process ---------------------------------------------------------------------------------------------------

    def _signal(self) -> bool:
        runner = self.world.start(*self.words)
        self._pause()
        os.kill(runner.pid, SIGNALS[self.blow.kind])
        code = self._ends(runner, *SIGNALLED[self.blow.kind])
        return code in SIGNALLED[self.blow.kind]

    _killed = _terminated = _interrupted = _signal

    def _beside_another(self) -> bool:
        """A second run at once; of each two one is killed now and then."""
        other = ("sync", "dev", "--json") if self.words[0] != "sync" else tuple(self.words)
        if self.blow.detail % 3 == 0:
            other = (*other, "--wait")
        one = self.world.start(*self.words)
        self._pause()
        two = self.world.start(*other)
        if self.blow.detail % 5 == 0:
            time.sleep(self.blow.at * self._span)
            os.kill(one.pid, signal.SIGKILL)
        met = self.world.starter.wait(one, 0)
        codes = [self._known(one, met), self._ends(two)]
        if met is None and codes.count(5) == 2:
            self.world.fail("both runs were refused")
        return met is None

    def _known(self, runner: Runner, code: int | None) -> int:
        if code is None:
            return self._ends(runner, -9)
        self.world.note(f"{' '.join(runner.words)} ended with {code}: {runner.said[-1500:]}")
        if code not in FORESEEN | {-9}:
            self.world.fail(f"ended with {code}", runner)
        return code

    # -- the server ----------------------------------------------------------------------------------------------------

    def _backend(self, function: str) -> bool:
        runner = self.world.start(*self.words)
        self._pause()
        with psycopg.connect(self.world.project.urls["dev"], autocommit=True) as connection:
            at_work = "AND state = 'active'" if "cancel" in function else ""
            text = f"SELECT {function}(pid) FROM pg_stat_activity WHERE {self.world.mine} {at_work} AND application_name NOT LIKE '%/watch'"
            hit = connection.execute(text.encode()).fetchall()
        self._ends(runner)
        return bool(hit)

    def _cancelled(self) -> bool:
        return self._backend("pg_cancel_backend")

    def _session_ended(self) -> bool:
        return self._backend("pg_terminate_backend")

    def _server_crashed(self) -> bool:
        return self._restarted(crash=True)

    def _server_restarted(self) -> bool:
        return self._restarted(crash=False)

    def _restarted(self, *, crash: bool) -> bool:
        server = self.world.server
        runner = self.world.start(*self.words)
        self._pause()
        code = self.world.starter.wait(runner, 0)
        if crash:
            server.kill()
            server.start()
        else:
            server.restart(server._settings)
        if code is None:
            self._ends(runner)
            return True
        self._known(runner, code)
        return False

    # -- the line ------------------------------------------------------------------------------------------------------

    def _line_cut(self) -> bool:
        stays = self.blow.detail % 4 == 3
        with CountingProxy(self.world.port, cut_after=self._byte(), stays_down=stays) as proxy:
            self._ends(self.world.start(*self.words, proxy=proxy))
            return proxy.was_cut.is_set()

    def _black_hole(self) -> bool:
        """Nothing arrives any more. Then it does; or the line is gone; or so is the machine behind it."""
        world = self.world
        with CountingProxy(world.port, hold_after=self._byte()) as proxy:
            runner = world.start(*self.words, proxy=proxy)
            deadline, code = time.monotonic() + 20, None
            while not proxy.held.wait(0.01) and code is None and time.monotonic() < deadline:
                code = world.starter.wait(runner, 0)
            if not proxy.held.is_set() or code is not None:  # it has ended: its pid may be anybody's by now
                proxy.let_go()
                self._known(runner, code) if code is not None else self._ends(runner)
                return False
            time.sleep(0.05 + 0.2 * self.blow.at)
            match self.blow.detail // 2 % 4:
                case 0:
                    proxy.let_go()
                    self._ends(runner)
                case 1 | 2:
                    proxy.cut_now()
                    self._ends(runner)
                case _:
                    os.kill(runner.pid, signal.SIGKILL)
                    self._ends(runner, -9)
                    self._refused_meanwhile()
                    proxy.cut_now()
            return True

    def _refused_meanwhile(self) -> None:
        """Whoever comes while the server still waits for the vanished one is told whom it waits for."""
        world = self.world
        with psycopg.connect(world.project.urls["dev"], autocommit=True) as connection:
            holders = connection.execute(
                "SELECT a.pid, a.application_name FROM pg_locks JOIN pg_stat_activity a USING (pid) WHERE locktype = 'advisory'"
                " AND granted AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND mode = 'ExclusiveLock'"
            ).fetchall()
        if not holders:
            return
        second = world.start("sync", "dev", "--json")
        code = self._ends(second)
        if code == 4 and self.words[0] == "init":
            return  # there is no ledger yet
        if code != 5:
            world.fail("a run was let in while another one's session held the lock", second)
        said = second.said + second.printed
        if not any(f"pid {pid}" in said and name.removeprefix("lockstep/") in said for pid, name in holders):
            world.fail(f"the refusal does not name the holder, {holders}", second)


KINDS = (
    "killed", "terminated", "interrupted", "beside_another", "cancelled", "session_ended", "server_crashed",
    "server_restarted", "line_cut", "black_hole",
)  # fmt: skip
