"""A rehearsal's report as text and Markdown: golden files, to be read with one's own eyes before they are renewed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lockstep.core.locking.lock_modes import Mode
from lockstep.core.rehearsal.judging import judge
from lockstep.core.rehearsal.markdown import rehearsal_markdown
from lockstep.core.rehearsal.proof import Loss, RevertProof, Standing, WayBack
from lockstep.core.rehearsal.rendering import rehearsal_text
from lockstep.core.rehearsal.report import Copy, Rehearsal
from lockstep.core.rehearsal.summary import headline
from lockstep.core.rehearsal.trace import FileTrace, Rewrite, Scan, StatementTrace, TracedLock, Window, Written
from lockstep.core.rehearsal.verdict import Budgets, Outcome, Problem
from lockstep.core.text import display_width

STRONG = Mode.ACCESS_EXCLUSIVE


def lock(relation: str, kind: str = "table", mode: Mode = STRONG) -> TracedLock:
    return TracedLock(relation=relation, kind=kind, mode=mode, existed=True)


EMAIL = FileTrace(
    name="002-customer-email.sql",
    transactional=True,
    ms=4.2,
    statements=(StatementTrace(index=0, line=1, kind="ALTER TABLE", ms=2.4, locks=(lock("public.customers"),)),),
    windows=(Window(relation="public.customers", mode=STRONG, ms=3.1, line=1),),
)
TOTAL = FileTrace(
    name="003-order-total.sql",
    transactional=True,
    ms=12_400,
    statements=(
        StatementTrace(
            index=0, line=3, kind="ALTER TABLE", ms=12_301,
            locks=(lock("public.orders"), lock("public.orders_pkey", "index")),
            rewrites=(Rewrite(relation="public.orders", kind="table", bytes=1_230_000_000, reason="another column type"),),
            scans=(Scan(relation="public.orders", scans=1, rows=5_000_000),),
            wal=1_400_000_000,
        ),
    ),
    windows=(
        Window(relation="public.orders_pkey", mode=STRONG, ms=12_310, line=3),
        Window(relation="public.orders", mode=STRONG, ms=12_310, line=3),
    ),
)  # fmt: skip
FILL = FileTrace(
    name="004-fill.sql",
    transactional=False,
    ms=8_000,
    statements=(
        StatementTrace(
            index=0, line=2, kind="UPDATE", ms=7_900, batches=40, sampled=True,
            written=(Written(relation="public.customers", updated=200_000),),
        ),
    ),
)  # fmt: skip
PROOFS = (
    RevertProof(name="002-customer-email.sql", version=2, standing=Standing.PROVEN),
    RevertProof(
        name="003-order-total.sql", version=3, standing=Standing.LOSES,
        losses=(Loss(relation="public.orders", column="total", rows=12_345, what="the column is dropped"),),
    ),
    RevertProof(name="004-fill.sql", version=4, standing=Standing.IRREVERSIBLE, reason="a backfill"),
)  # fmt: skip
WAYS = (
    WayBack(how="revert", ms=400, loses="12,345 rows of public.orders.total", command="lockstep revert prod --to 1"),
    WayBack(
        how="restore",
        ms=41_200,
        loses="everything written since the backup of 10:15 UTC",
        command="lockstep restore 20261124T101500Z-4f1d6a --into prod --replace",
    ),
)
ADVICE = {
    (
        "003-order-total.sql",
        3,
    ): "let a second column take over:\n-- file 1\nALTER TABLE public.orders ADD COLUMN total_new bigint;\n"
    "-- file 2\n-- lockstep: repeat-until-empty batch_pause=100ms\nUPDATE public.orders SET total_new = total::bigint …;"
}
COPY = Copy(
    backup="20261124T101500Z-4f1d6a",
    taken_at=datetime(2026, 11, 24, 10, 15, tzinfo=UTC),
    size=2_100_000_000,
    server_version="17.10",
    source_version="17.6 (Debian 17.6-1)",
    restore_ms=41_200,
    isolated=True,
)


def made(
    *files: FileTrace,
    found: tuple[Problem, ...] = (),
    planned: tuple[str, ...] = (),
    allow: dict[str, dict[str, str]] | None = None,
    copy: Copy = COPY,
) -> Rehearsal:
    proofs = tuple(one for one in PROOFS if one.name in {file.name for file in files})
    return Rehearsal(
        environment="prod",
        run_id="20261124-101500-4f1d",
        at=datetime(2026, 11, 24, 10, 30, tzinfo=UTC),
        duration_ms=52_000,
        plan_digest="d" * 64,
        copy=copy,
        verdict=judge(files, Budgets(), proofs=proofs, found=found, advice=ADVICE, allowances=allow),
        files=files,
        planned=tuple(one.name for one in files) + planned,
        proofs=proofs,
        ways_back=WAYS if files else (),
    )


FAILURE = Problem(
    outcome=Outcome.FAILED,
    rule="fails-on-data",
    message="public.users: 2 rows have the same value in (email): id = 17 and id = 23",
    file="005-unique.sql",
    line=1,
    advice="mend these rows in a migration before this one; this finds them:\n"
    "SELECT email, count(*) FROM public.users GROUP BY email HAVING count(*) > 1;",
)
DOUBT = Problem(
    outcome=Outcome.UNVERIFIED,
    rule="reaches-outside",
    message="it calls net.http_post, which reaches a web server",
    file="005-tell.sql",
    line=2,
    advice='give it a file of its own:\n-- lockstep: allow=reaches-outside reason="…"',
)
REDUCED = replace(
    COPY,
    tier="schema only",
    server_version="18.1",
    isolated=False,
    notes=("extension pg_cron is not on this server: left out",),
)

CASES = {
    "passed": made(EMAIL),
    "nothing": made(),
    "failed": made(EMAIL, TOTAL, FILL),
    "on-data": made(EMAIL, found=(FAILURE,), planned=("005-unique.sql", "006-more.sql")),
    "doubt": made(EMAIL, found=(DOUBT,), planned=("005-tell.sql",), copy=REDUCED),
    "allowed": made(
        TOTAL,
        allow={"003-order-total.sql": dict.fromkeys(("blocks-too-long", "rewrites-too-much"), "a window on Sunday")},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_report_in_a_terminal(name: str, golden: Callable[[str, str], None]) -> None:
    text = rehearsal_text(CASES[name], statements=name == "failed")
    golden(f"rehearsal-{name}.txt", text + "\n")
    wide = [line for line in text.splitlines() if display_width(line) > 100 and not line.startswith("      ")]
    assert wide == []


@pytest.mark.parametrize("name", CASES)
def test_the_report_in_the_orchestrator(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"rehearsal-{name}.md", rehearsal_markdown(CASES[name]) + "\n")


def test_one_sentence_says_it_all() -> None:
    assert headline(CASES["passed"]) == (
        "passed: backup verified, 1 migration passes, worst blocking window 3 ms on public.customers (ACCESS EXCLUSIVE), "
        "revert proven"
    )
    assert headline(CASES["failed"]) == (
        "failed: 003-order-total: ACCESS EXCLUSIVE on public.orders keeps reads and writes waiting for 12.3 s "
        "(max_blocking is 2.0 s), and with it 1 other relation (and 1 more)"
    )
    assert headline(CASES["doubt"]).startswith("could not verify: 005-tell: it calls net.http_post")


def test_of_many_migrations_the_quiet_ones_are_counted() -> None:
    quiet = tuple(replace(EMAIL, name=f"{n:03}-quiet.sql") for n in range(10, 60))
    text = rehearsal_text(made(*quiet, TOTAL))
    assert "010-quiet" not in text and "003-order-total" in text
    assert "and 50 more, of which nobody waits for any longer than 100 ms" in text
    assert len(rehearsal_markdown(made(*quiet, TOTAL)).splitlines()) < 60


def test_a_long_reason_is_wrapped_and_a_command_stays_whole() -> None:
    why = "there is none: 003-order-total: fails: 003-order-total.down.sql:2: " + "a relation depends on it, " * 8
    ways = (replace(WAYS[0], ms=None, loses=why, command=""), WAYS[1])
    for width in (60, 80, 100):
        lines = rehearsal_text(replace(CASES["failed"], ways_back=ways), width=width).splitlines()
        table = lines[lines.index("  way back  takes   loses") :]
        assert f"{'':20}run: {WAYS[1].command}" in table
        assert all(display_width(line) <= width for line in table if "run: " not in line and "next: " not in line)
        assert " ".join(" ".join(table).split()).count("a relation depends on it,") == 8
    assert f"UTC  {WAYS[1].command}\n" in rehearsal_text(CASES["failed"], width=140)


def test_one_row_is_one_row() -> None:
    one = StatementTrace(
        index=0, line=1, kind="UPDATE", ms=5,
        scans=(Scan(relation="public.t", scans=1, rows=1),), written=(Written(relation="public.t", updated=1),),
    )  # fmt: skip
    text = rehearsal_text(made(replace(EMAIL, statements=(one,))), statements=True)
    assert "writes 1 row of public.t\n" in text and "reads all of public.t: 1 row\n" in text


def test_a_narrow_terminal_gets_fewer_columns() -> None:
    wide = rehearsal_text(CASES["failed"], width=140)
    assert all(word in wide for word in ("written anew", "rows read", "5,000,000", "200,000"))
    narrow = rehearsal_text(CASES["failed"], width=100)
    assert max(display_width(line) for line in narrow.splitlines()[5:11]) <= 100


def test_colour_changes_nothing_but_the_colour() -> None:
    marked = rehearsal_text(CASES["failed"], paint=lambda text, colour: f"<{colour}>{text}</{colour}>")
    assert marked.startswith("prod: rehearsal <red>failed</red>: 2 problems in 003-order-total")
    for colour in ("red", "green", "yellow"):
        marked = marked.replace(f"<{colour}>", "").replace(f"</{colour}>", "")
    assert marked == rehearsal_text(CASES["failed"])


def test_names_of_others_steer_neither_table_nor_page() -> None:
    odd = replace(EMAIL, windows=(replace(EMAIL.windows[0], relation='public."a|b`c"'),))
    page = rehearsal_markdown(made(odd))
    assert '| 3 ms on ``public."a\\|b`c"`` ' in page
