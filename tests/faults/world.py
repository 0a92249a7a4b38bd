"""One project on one database: runs on it, and what must hold when they are over.

A person's part is here as well: what is done by hand, and in the end everything mended and settled, after which one run
must come through.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from lockstep.postgres.throwaway import ThrowawayServer
from tests.faults.evidence import Seen, look, names
from tests.faults.files import Files
from tests.faults.scripts import Script
from tests.faults.starter import Runner, Starter
from tests.integration.pooler import Pooler
from tests.integration.proxy import CountingProxy

#: Seconds that a run may take, whatever happens to it: one that lost its line waits 75 for its old session to end.
LIMIT = 100.0
GONE = 20.0  # seconds within which its sessions are gone; what they really take is told at the end
#: Sessions of runs. A pooler keeps its own when they are over, under the same name: those that do nothing do not count.
MINE = (
    "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    " AND application_name LIKE 'lockstep/%'"
)
POOLED = f"{MINE} AND (state <> 'idle' OR pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory'))"
#: Exit codes that mean something; 1 would be an error that nobody foresaw, and 2 a command line of ours that is wrong.
FORESEEN = {0, 3, 4, 5, 6, 7, 8}


class Violation(AssertionError):
    """Something that Lockstep promises did not hold."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What an undisturbed run costs here: a moment or a byte of it can be hit then."""

    seconds: float  # with nothing to do
    seconds_each: float  # more for each migration
    bytes: dict[str, int]  # by who sends them
    bytes_each: dict[str, int]


@dataclass(kw_only=True)
class World(Files):
    """One database and its folder."""

    server: ThrowawayServer
    starter: Starter
    pace: Pace
    pooler: Pooler | None = None  # that runs are led through

    # -- runs ----------------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Where runs connect to."""
        return self.pooler.port if self.pooler else self.server.port

    @property
    def mine(self) -> str:
        """An SQL condition: the session is one of a run."""
        return POOLED if self.pooler else MINE

    def start(self, *words: str, proxy: CountingProxy | None = None) -> Runner:
        port = proxy.port if proxy else self.port
        url = self.project.urls["dev"].replace(f":{self.server.port}/", f":{port}/")
        return self.starter.start(self.project, *words, url=url)

    def end(self, runner: Runner, *, codes: set[int] = FORESEEN) -> int:
        """Wait for a run; look whether it ended as it may, and whether what it says is so."""
        code = self.starter.wait(runner, LIMIT)
        if code is None:
            os.kill(runner.pid, signal.SIGKILL)
            self.starter.wait(runner, 5)
            self.fail(f"{' '.join(runner.words)} did not end within {LIMIT:.0f} s", runner)
        assert code is not None
        self.note(f"{' '.join(runner.words)} ended with {code}: {runner.said[-1500:]}")
        if code not in codes or re.search(r"unexpected \w+:|Traceback", runner.said):
            self.fail(f"{' '.join(runner.words)} ended with {code}", runner)
        return code

    def begin(self) -> None:
        """Make the ledger, and apply the first migration."""
        if self.clean("init", "dev") != 0 or self.clean("sync", "dev", "--json") != 0:
            self.fail("it could not begin")
        self.check()

    def clean(self, *words: str) -> int:
        """A run that nobody disturbs. Afterwards nothing of it is left."""
        runner = self.start(*words)
        code = self.end(runner)
        self.quiet()
        self.claims(runner)
        return code

    def quiet(self) -> None:
        """No session of a run, no lock, no open transaction: at once, or when the server has noticed."""
        began = time.monotonic()
        with psycopg.connect(self.project.urls["dev"], autocommit=True) as connection:
            while True:
                left = connection.execute(f"SELECT application_name, state, query FROM pg_stat_activity WHERE {self.mine}".encode()).fetchall()  # fmt: skip
                if not left:
                    break
                if time.monotonic() - began > GONE:
                    self.fail(f"sessions of runs are left after {GONE} s: {left}")
                time.sleep(0.005)
            self.tally.slowest = max(self.tally.slowest, time.monotonic() - began)
            locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            if connection.execute(locks).fetchone() != (0,):
                self.fail("a lock is left")
            if connection.execute("SELECT count(*) FROM pg_prepared_xacts").fetchone() != (0,):
                self.fail("a prepared transaction is left")

    def check(self) -> Seen:
        """Look at the evidence."""
        seen = look(self.project.urls["dev"])
        if problems := self.books.problems(seen):
            self.fail("; ".join(problems))
        return seen

    def claims(self, runner: Runner) -> None:
        """What a run said that it applied is in the audit log, as its own."""
        if runner.words[0] != "sync" or not runner.printed.strip():
            return
        said = json.loads(runner.printed)
        if "environments" not in said:
            return
        log = look(self.project.urls["dev"]).log
        for environment in said["environments"]:
            for one in environment["applied"]:
                found = [
                    e for e in log
                    if e["event"] == "apply" and e["migration_name"] == one["name"] and e["run_id"] == said["run_id"]
                ]  # fmt: skip
                if len(found) != 1:
                    self.fail(
                        f"{one['name']} was said to be applied, and the audit log has it {len(found)} times", runner
                    )

    def shown(self, words: Sequence[str]) -> list[tuple[str, str]] | None:
        """The plan of a sync, as `plan` shows it: (file name, checksum); None where it is refused."""
        done = self.project.run("plan", "dev", "--json", *[w for w in words[2:] if w not in ("--wait", "--json")])
        if done.code not in FORESEEN:
            self.fail(f"plan ended with {done.code}: {done.err}")
        document = json.loads(done.out)
        if done.code not in {0, 3} or not document.get("environments"):
            return None
        return names(document["environments"][0]["steps"])

    # -- a person ------------------------------------------------------------------------------------------------------

    def settle_doubts(self) -> bool:
        """Say what became of statements that commit by themselves and broke off, having looked. Whether there were any."""
        seen, found = look(self.project.urls["dev"]), False
        for name, entry in seen.ledger.items():
            progress = entry["progress"]
            if entry["state"] == "applied" or progress is None or not progress["attempted"] or not entry["version"]:
                continue
            script = self.books.begun(seen, name)
            done = script.done(entry["statements_done"] or 0)
            if done >= len(script.parts) or not script.parts[done].doubtful:
                continue
            (tag,) = script.parts[done].tags
            # Earlier rounds of the same text left theirs; what is more than they is this one.
            before = sum(
                1 for e in seen.log
                if e["event"] == "apply" and e["migration_name"] == name
                and tag in self.books.ups[e["details"]["checksum"]].tags
            ) + self.books.by_hand[tag]  # fmt: skip
            word = "--statement-done" if seen.tags[tag] > before else "--statement-undone"
            if self.clean("repair", "dev", word, str(entry["version"])) != 0:
                self.fail("a doubt could not be settled")
            found = True
        return found

    def all_of_it(self) -> tuple[str, ...]:
        """The command line that applies everything, what is held as well."""
        seen = look(self.project.urls["dev"])
        absent = [version for version in self.versions if self._entry(seen, version) is None]
        return ("sync", "dev", "--json", "--wait", *(w for v in absent for w in ("--include", str(v))))

    def run_by_hand(self, version: int) -> None:
        """A person runs a file with psql. Nothing of it is in the ledger yet."""
        script = self.versions[version].script
        with psycopg.connect(self.project.urls["dev"], autocommit=True) as connection:
            for part in script.parts:
                while connection.execute(part.sql.encode()).rowcount > 0 and script.fills is not None:
                    pass
        self.books.by_hand.update(script.tags)
        self.note(f"{version} is run by hand")

    def take_back_by_hand(self, version: int, script: Script) -> None:
        """A person removes what a file made, whose entry is gone."""
        with psycopg.connect(self.project.urls["dev"], autocommit=True) as connection:
            for part in reversed(script.parts):
                if part.makes.startswith("column"):
                    connection.execute(f"ALTER TABLE big DROP {part.makes}".encode())
                elif part.makes:
                    connection.execute(f"DROP {part.makes}".encode())
            connection.execute("DELETE FROM filled WHERE v = %s", (version,))
        self.note(f"{version} is taken back by hand")

    def finish(self) -> None:
        """Everything is mended and settled; then a run must come through, and nothing be lost, doubled or left."""
        self.mend()
        for _ in range(len(self.versions) + 2):
            seen = look(self.project.urls["dev"])
            if not any((e["progress"] or {}).get("reverting") for e in seen.ledger.values()):
                break
            if self.clean("revert", "dev", "--steps", "1") != 0:
                self.fail("a revert that was begun could not be finished")
        self.mend()
        self.settle_doubts()
        if self.clean(*self.all_of_it()) != 0:
            self.fail("after everything was mended, a run did not come through")
        seen = self.check()
        wanted = {"001-base.sql", *(f"{v:03d}-m.sql" for v in self.versions), *(f"repeatable/{n}.sql" for n in self.repeatables)}  # fmt: skip
        if {n for n, e in seen.ledger.items() if e["state"] == "applied"} != wanted:
            self.fail(f"not everything is applied: {wanted}")
        if seen.invalid:
            self.fail(f"invalid indexes are left: {seen.invalid}")
        self.tally.applied += sum(1 for e in seen.log if e["event"] == "apply")
        self.tally.reverted += sum(1 for e in seen.log if e["event"] == "revert")
        for command in (("history", "dev", "--verify"), ("status", "dev", "--check"), ("drift", "dev")):
            done = self.project.run(*command)
            # What units of a run that was cut off made may be called drift: docs/how-to/drift.md says so.
            if done.code not in ({0, 4} if command[0] == "drift" else {0}):
                self.fail(f"{' '.join(command)} ended with {done.code}: {done.out}{done.err}")

    # -- telling -------------------------------------------------------------------------------------------------------

    def fail(self, what: str, runner: Runner | None = None) -> None:
        said = f"\n{runner.said}\n{runner.printed}" if runner else ""
        story = "\n  ".join(self.story)
        folder = "\n".join(
            f"--- {p.name}\n{p.read_text()}" for p in sorted((self.project.folder / "migrations").rglob("*.sql"))
        )
        raise Violation(f"{what}{said}\nwhat happened:\n  {story}\n{folder}")
