"""What a rehearsal confirms of the locks that a text promises, and what it corrects."""

from __future__ import annotations

import pytest

from lockstep.core.locking.lock_modes import Mode
from lockstep.core.locking.lock_report import FileLocks
from lockstep.core.locking.locks import script_locks
from lockstep.core.rehearsal.corrections import corrections
from lockstep.core.rehearsal.trace import FileTrace, StatementTrace, TracedLock
from lockstep.core.statements import parse_script

AE, SHARE, SUE, SRE = (
    Mode.ACCESS_EXCLUSIVE, Mode.SHARE, Mode.SHARE_UPDATE_EXCLUSIVE, Mode.SHARE_ROW_EXCLUSIVE,
)  # fmt: skip


def lock(relation: str, mode: Mode, kind: str = "table", *, existed: bool = True) -> TracedLock:
    return TracedLock(relation=f"public.{relation}", kind=kind, mode=mode, existed=existed)


def lines(text: str, *seen: tuple[TracedLock, ...], sampled: bool = False) -> list[str]:
    """The corrections of a script whose statements were seen to take these locks."""
    script = parse_script(text, "001-a.sql", transactional=False)
    statements = tuple(
        StatementTrace(index=index, line=one.line, kind="X", ms=1, locks=locks, sampled=sampled)
        for index, (one, locks) in enumerate(zip(script.statements, seen, strict=True))
    )
    trace = FileTrace(name="001-a", transactional=True, ms=1, statements=statements)
    predicted = FileLocks(file="001-a", statements=script_locks(script))
    return [f"line {one.line}: {one.message}" for one in corrections([trace], [predicted])]


def test_what_is_seen_as_promised_needs_no_word() -> None:
    assert lines("CREATE INDEX i ON orders (a)", (lock("orders", SHARE),)) == []
    assert lines("CREATE INDEX i ON public.orders (a)", (lock("orders", SHARE), lock("i", AE, existed=False))) == []


def test_a_stronger_a_weaker_and_an_unforeseen_lock_are_told() -> None:
    assert lines("\n\nCREATE INDEX i ON orders (a)", (lock("orders", AE),)) == [
        "line 3: predicted SHARE on orders, seen ACCESS EXCLUSIVE"
    ]
    assert lines("ALTER TABLE orders ADD COLUMN a int", (lock("orders", SUE),)) == [
        "line 1: predicted ACCESS EXCLUSIVE on orders, seen SHARE UPDATE EXCLUSIVE"
    ]
    assert lines("COMMENT ON TABLE orders IS 'x'", (lock("orders", SUE), lock("people", SHARE))) == [
        "line 1: predicted no lock on public.people, seen SHARE"
    ]


def test_a_lock_that_the_transaction_has_already_is_no_surprise() -> None:
    text = "ALTER TABLE orders ADD COLUMN a int; CREATE INDEX i ON orders (a)"
    assert lines(text, (lock("orders", AE),), ()) == []


def test_a_relation_renamed_in_the_file_is_known_by_its_old_name() -> None:
    text = "ALTER TABLE orders RENAME TO sales; ALTER TABLE sales ADD COLUMN a int"
    assert lines(text, (lock("orders", AE),), ()) == []


@pytest.mark.parametrize("kind", ["index", "TOAST table"])
def test_what_comes_along_with_its_table_is_not_compared(kind: str) -> None:
    seen = (lock("orders", AE), lock("more", AE, kind))
    assert lines("ALTER TABLE orders ALTER COLUMN a TYPE int", seen) == []


def test_partitions_come_along_with_what_they_are_a_part_of() -> None:
    seen = (lock("log", AE), lock("log_2024", AE, "partition"))
    assert lines("ALTER TABLE log ADD COLUMN a int", seen) == []


def test_a_promise_in_words_covers_what_it_is_about() -> None:
    text = "ALTER TABLE orders DROP CONSTRAINT f"
    assert lines(text, (lock("orders", AE), lock("customers", AE))) == []


def test_what_code_does_is_no_promise() -> None:
    assert lines("DO $$ BEGIN LOCK TABLE orders; END $$", (lock("orders", AE),)) == []


def test_a_sample_that_missed_a_lock_corrects_nothing() -> None:
    text = "VACUUM FULL orders"
    assert lines(text, (), sampled=True) == []
    assert lines("VACUUM orders", (lock("orders", AE),), sampled=True) == [
        "line 1: predicted SHARE UPDATE EXCLUSIVE on orders, seen ACCESS EXCLUSIVE"
    ]
