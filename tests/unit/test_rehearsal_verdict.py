"""The verdict: a pure function of what was seen, the budgets and what files allow."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.core.locking.lock_modes import Mode
from lockstep.core.rehearsal.judging import copy_differs, judge, reduced_copy, resume_differs, with_failure
from lockstep.core.rehearsal.proof import Loss, RevertProof, Standing
from lockstep.core.rehearsal.rules import BINDING, RULES
from lockstep.core.rehearsal.trace import FileTrace, Rewrite, StatementTrace, TracedLock, Window, Written
from lockstep.core.rehearsal.verdict import Budgets, Outcome, Problem

STRONG = Mode.ACCESS_EXCLUSIVE
BUDGETS = Budgets(max_blocking_ms=2_000, max_rewrite=1_000)


def lock(relation: str, mode: Mode = STRONG, kind: str = "table") -> TracedLock:
    return TracedLock(relation=relation, kind=kind, mode=mode, existed=True)


def statement(line: int = 1, ms: float = 5.0, kind: str = "ALTER TABLE", **fields: object) -> StatementTrace:
    return StatementTrace(index=line - 1, line=line, kind=kind, ms=ms, **fields)  # type: ignore[arg-type]


def trace(
    *statements: StatementTrace, name: str = "001-a.sql", transactional: bool = True, **fields: object
) -> FileTrace:
    ms = sum(one.ms for one in statements)
    return FileTrace(name=name, transactional=transactional, ms=ms, statements=statements, **fields)  # type: ignore[arg-type]


def rules(*files: FileTrace, budgets: Budgets = BUDGETS) -> list[str]:
    return [one.rule for one in judge(files, budgets).problems]


def window(ms: float, relation: str = "public.orders", mode: Mode = STRONG, line: int = 1) -> Window:
    return Window(relation=relation, mode=mode, ms=ms, line=line)


def test_nothing_to_blame_passes() -> None:
    assert judge((), BUDGETS).outcome is Outcome.PASSED
    assert judge((trace(statement(locks=(lock("public.orders"),)), windows=(window(1_999),)),), BUDGETS).problems == ()


def test_a_window_over_the_budget_names_relation_mode_time_and_line() -> None:
    file = trace(
        statement(line=3, ms=5_200, locks=(lock("public.orders"), lock("public.orders_pkey", kind="index"))),
        windows=(window(5_300, "public.orders_pkey", line=3), window(5_300, line=3)),
    )
    (problem,) = judge((file,), BUDGETS).problems
    assert (problem.outcome, problem.rule, problem.place) == (Outcome.FAILED, "blocks-too-long", "001-a.sql:3")
    assert problem.message == (
        "ACCESS EXCLUSIVE on public.orders keeps reads and writes waiting for 5.3 s (max_blocking is 2.0 s), "
        "and with it 1 other relation"
    )


def test_a_weak_lock_may_be_held_for_as_long_as_it_likes() -> None:
    weak = trace(statement(), windows=(window(900_000, mode=Mode.SHARE_UPDATE_EXCLUSIVE),))
    assert rules(weak) == []


def test_a_quick_lock_that_slow_work_keeps_says_which_statement_is_slow() -> None:
    file = trace(
        statement(line=2, ms=3, locks=(lock("public.orders"),)),
        statement(line=5, ms=4_000, kind="UPDATE"),
        windows=(window(4_100, line=2),),
    )
    (problem,) = judge((file,), BUDGETS).problems
    assert problem.line == 2
    assert problem.message.endswith("; 4.0 s of that is line 5, UPDATE")
    assert problem.advice == "begin another file with line 5: what line 2 locks is let go before it"
    (problem,) = judge((file,), BUDGETS, advice={("001-a.sql", 5): "in batches:\nUPDATE …"}).problems
    assert problem.advice == "in batches:\nUPDATE …"


def test_outside_of_a_transaction_the_statements_behind_keep_no_lock() -> None:
    file = trace(
        statement(line=2, ms=3_000), statement(line=5, ms=9_000), transactional=False, windows=(window(3_000, line=2),)
    )
    (problem,) = judge((file,), BUDGETS, advice={("001-a.sql", 2): "otherwise"}).problems
    assert problem.advice == "otherwise" and "line 5" not in problem.message


@pytest.mark.parametrize(
    ("mode", "kind", "found"),
    [
        (Mode.ACCESS_EXCLUSIVE, "ALTER TABLE", ["rewrites-too-much"]),
        (Mode.SHARE, "REINDEX TABLE", ["rewrites-too-much"]),
        (Mode.SHARE_UPDATE_EXCLUSIVE, "REINDEX TABLE CONCURRENTLY", []),
    ],
)  # fmt: skip
def test_a_rewrite_counts_under_a_strong_lock(mode: Mode, kind: str, found: list[str]) -> None:
    rewrite = Rewrite(relation="public.orders", kind="table", bytes=1_001, reason="another column type")
    assert rules(trace(statement(kind=kind, locks=(lock("public.orders", mode),), rewrites=(rewrite,)))) == found
    small = replace(rewrite, bytes=1_000)
    assert rules(trace(statement(kind=kind, locks=(lock("public.orders", mode),), rewrites=(small,)))) == []


def test_a_lock_of_an_earlier_statement_counts_for_a_rewrite_and_an_index_has_its_tables() -> None:
    rewrite = Rewrite(relation="public.orders_pkey", kind="index", bytes=5_000)
    file = trace(statement(line=1, locks=(lock("public.orders"),)), statement(line=2, rewrites=(rewrite,)))
    assert rules(file) == ["rewrites-too-much"]
    assert rules(replace(file, transactional=False)) == []


def test_what_was_only_sampled_counts_as_locked_unless_it_is_concurrent() -> None:
    rewrite = Rewrite(relation="public.orders", kind="table", bytes=5_000)
    full = trace(statement(kind="VACUUM FULL", sampled=True, rewrites=(rewrite,)), transactional=False)
    beside = trace(statement(kind="REINDEX INDEX CONCURRENTLY", sampled=True, rewrites=(rewrite,)), transactional=False)
    assert (rules(full), rules(beside)) == (["rewrites-too-much"], [])


def test_an_invalid_index_fails() -> None:
    assert rules(trace(statement(), invalid_indexes=("public.broken",))) == ["leaves-invalid-index"]


PROOF = RevertProof(name="001-a.sql", version=1, standing=Standing.PROVEN)


@pytest.mark.parametrize("standing", Standing)
def test_a_way_back_counts_only_where_it_is_asked_for(standing: Standing) -> None:
    proof = replace(
        PROOF, standing=standing, reason="why", losses=(Loss(relation="public.a", column=None, rows=3, what="x"),)
    )
    assert judge((), BUDGETS, proofs=(proof,)).outcome is Outcome.PASSED
    asked = judge((), replace(BUDGETS, needs_proven_revert=True), proofs=(proof,))
    expected = {
        Standing.PROVEN: Outcome.PASSED, Standing.IRREVERSIBLE: Outcome.PASSED, Standing.UNTRIED: Outcome.UNVERIFIED,
    }.get(standing, Outcome.FAILED)  # fmt: skip
    assert asked.outcome is expected
    repeatable = replace(proof, version=None)
    assert judge((), replace(BUDGETS, needs_proven_revert=True), proofs=(repeatable,)).outcome is Outcome.PASSED


def test_the_copy_counts() -> None:
    assert judge((), BUDGETS, found=copy_differs(("3 rows instead of 4",))).outcome is Outcome.FAILED
    assert reduced_copy("full") is None
    reduced = reduced_copy("schema only")
    assert reduced is not None and judge((), BUDGETS, found=(reduced,)).outcome is Outcome.UNVERIFIED
    assert judge((), BUDGETS, found=(resume_differs("a.sql", ["index x"]),)).outcome is Outcome.FAILED


def test_what_is_left_behind_a_held_file_is_not_verified_and_no_more_behind_a_failure() -> None:
    doubt = problem(Outcome.UNVERIFIED, "reaches-outside")
    held = judge((), BUDGETS, found=(doubt,), left=("002-b.sql",))
    assert [one.rule for one in held.problems] == ["reaches-outside", "not-tried"]
    allowed = judge(
        (), BUDGETS, found=(doubt,), left=("002-b.sql",), allowances={"001-a.sql": {"reaches-outside": "ok"}}
    )
    assert (allowed.outcome, [one.rule for one in allowed.problems]) == (Outcome.UNVERIFIED, ["not-tried"])
    failed = judge((), BUDGETS, found=(problem(Outcome.FAILED, "fails"),), left=("002-b.sql",))
    assert [one.rule for one in failed.problems] == ["fails"]


def test_a_failure_of_a_doubtful_statement_says_nothing() -> None:
    doubt = replace(problem(Outcome.UNVERIFIED, "touches-subscription"), line=4)
    failure = replace(problem(Outcome.FAILED, "fails"), line=5, message="no such slot")
    (only,) = with_failure([doubt], failure, 4)
    assert only.outcome is Outcome.UNVERIFIED and only.message == "x; it fails there: no such slot"
    assert with_failure([doubt], failure, 3) == [doubt, failure]


def test_long_row_locks_and_much_wal_are_noted_and_fail_nothing() -> None:
    file = trace(
        statement(
            line=1,
            ms=9_000,
            kind="UPDATE",
            written=(Written(relation="public.orders", updated=5_000),),
            wal=2_000_000_000,
        )
    )
    verdict = judge((file,), BUDGETS)
    assert verdict.outcome is Outcome.PASSED
    assert [one.message for one in verdict.notes] == [
        "5,000 rows of public.orders that UPDATE changes stay locked for 9.0 s: whoever changes one of them waits",
        "it makes 2.0 GB of write-ahead log: standbys and archiving fall behind meanwhile",
    ]
    batched = trace(
        statement(ms=9_000, kind="UPDATE", batches=100, written=(Written(relation="o", updated=5),)),
        transactional=False,
    )
    assert judge((batched,), BUDGETS).notes == ()


# -- properties ---------------------------------------------------------------------------------------------------


def problem(outcome: Outcome, rule: str, file: str | None = "001-a.sql") -> Problem:
    return Problem(outcome=outcome, rule=rule, message="x", file=file)


problems = st.lists(
    st.builds(
        problem,
        st.sampled_from([Outcome.FAILED, Outcome.UNVERIFIED]),
        st.sampled_from(sorted(RULES)),
        st.sampled_from([None, "001-a.sql", "002-b.sql"]),
    ),
    max_size=8,
)
windows = st.lists(
    st.builds(
        window,
        st.floats(0, 10_000),
        st.sampled_from(["public.a", "public.b"]),
        st.sampled_from(list(Mode)),
        st.integers(1, 4),
    ),
    max_size=6,
)  # fmt: skip
allowances = st.dictionaries(
    st.sampled_from(["001-a.sql", "002-b.sql"]),
    st.dictionaries(st.sampled_from(sorted(RULES)), st.just("because"), max_size=4),
)


@given(problems, windows, allowances)
def test_failed_beats_could_not_verify_beats_passed_and_nothing_is_lost(
    found: list[Problem], held: list[Window], allowed: dict[str, dict[str, str]]
) -> None:
    file = trace(*(statement(line=n) for n in range(1, 5)), windows=tuple(held))
    verdict = judge((file,), BUDGETS, found=found, allowances=allowed)
    outcomes = [one.outcome for one in verdict.problems]
    order: Callable[[Outcome], int] = [Outcome.FAILED, Outcome.UNVERIFIED, Outcome.PASSED].index
    assert verdict.outcome is min([*outcomes, Outcome.PASSED], key=order)
    assert outcomes == sorted(outcomes, key=order)
    lines = {one.line for one in held if one.mode.strong and one.ms > BUDGETS.max_blocking_ms}
    assert len(verdict.problems) + len(verdict.allowed) == len(found) + len(lines)
    for one in verdict.allowed:
        assert one.reason == "because" and one.rule not in BINDING and one.file is not None
    for one in verdict.problems:
        assert one.rule in BINDING or one.rule not in allowed.get(one.file or "", {})


@given(windows, st.floats(0, 10_000), st.floats(0, 10_000))
def test_a_larger_budget_never_fails_more(held: list[Window], one: float, other: float) -> None:
    file = trace(*(statement(line=n) for n in range(1, 5)), windows=tuple(held))
    small, large = sorted((round(one), round(other)))
    strict = rules(file, budgets=Budgets(max_blocking_ms=small))
    assert len(rules(file, budgets=Budgets(max_blocking_ms=large))) <= len(strict)


def test_the_order_of_what_was_found_does_not_change_the_outcome() -> None:
    found = [
        problem(Outcome.UNVERIFIED, "reduced-copy"),
        problem(Outcome.FAILED, "fails"),
        problem(Outcome.UNVERIFIED, "not-tried"),
    ]
    assert {judge((), BUDGETS, found=order).outcome for order in itertools.permutations(found)} == {Outcome.FAILED}
