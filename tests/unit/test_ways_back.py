"""Revert and restore side by side: what they take, what they lose, and what to type."""

from __future__ import annotations

from datetime import UTC, datetime

from lockstep.core.migration import Migration
from lockstep.core.planner import Plan, PlanOptions, plan
from lockstep.core.rehearsal.proof import Loss, RevertProof, Standing
from lockstep.core.rehearsal.report import Copy
from lockstep.core.rehearsal.waysback import ways_back
from tests.unit.folders import entry, folder, ledger, migration, repeatable

COPY = Copy(
    backup="20261124T101500Z-4f1d6a",
    taken_at=datetime(2026, 11, 24, 10, 15, tzinfo=UTC),
    size=1,
    server_version="17.2",
    source_version="17.2",
    restore_ms=41_000,
    isolated=True,
)

ONE, TWO, THREE = (migration(number, down="SELECT 1;") for number in (1, 2, 3))


def planned(*applied: Migration, pending: tuple[Migration, ...], include: frozenset[int] = frozenset()) -> Plan:
    made = plan(folder(*applied, *pending), ledger(*(entry(one) for one in applied)), PlanOptions(include=include))
    assert isinstance(made, Plan)
    return made


def proof(
    one: Migration, standing: Standing = Standing.PROVEN, *losses: Loss, reason: str | None = None
) -> RevertProof:
    return RevertProof(
        name=one.name, version=one.version, standing=standing, losses=losses, ms=200.0, reason=reason
    )  # fmt: skip


def test_a_proven_revert_stands_beside_the_restore() -> None:
    made = planned(ONE, pending=(TWO, THREE))
    revert, restore = ways_back([proof(TWO), proof(THREE)], environment="prod", plan=made, copy=COPY)
    assert (revert.ms, revert.loses, revert.command) == (400.0, "", "lockstep revert prod --to 1")
    assert restore.ms == 41_000.0
    assert restore.loses == "everything written since the backup of 10:15 UTC"
    assert restore.command == "lockstep restore 20261124T101500Z-4f1d6a --into prod --replace"


def test_what_a_revert_loses_is_counted_once() -> None:
    lost = Loss(relation="public.orders", column="note", rows=12, what="the column is dropped")
    more = Loss(relation="public.orders", column="note", rows=10, what="the column is dropped")
    made = planned(pending=(TWO, THREE))
    proofs = [proof(TWO, Standing.LOSES, lost), proof(THREE, Standing.LOSES, more)]
    revert = ways_back(proofs, environment="prod", plan=made, copy=COPY)[0]
    assert (revert.loses, revert.command) == ("12 rows of public.orders.note", "lockstep revert prod --to none")


def test_where_one_does_not_lead_back_there_is_no_revert_and_it_is_said_why() -> None:
    made = planned(ONE, pending=(TWO, THREE))
    proofs = [proof(TWO, Standing.IRREVERSIBLE, reason="the bank was told"), proof(THREE)]
    revert = ways_back(proofs, environment="prod", plan=made, copy=COPY)[0]
    assert (revert.ms, revert.command) == (None, "")
    assert revert.loses == "there is none: 002-step: irreversible: the bank was told"


def test_one_that_came_late_is_taken_back_alone() -> None:
    made = planned(ONE, THREE, pending=(TWO,), include=frozenset({2}))
    revert = ways_back([proof(TWO)], environment="prod", plan=made, copy=COPY)[0]
    assert revert.command == "lockstep revert prod --only 2"


def test_repeatables_alone_cannot_be_reverted_and_nothing_needs_no_way_back() -> None:
    made = planned(ONE, pending=(repeatable("names", "SELECT 1;"),))
    assert ways_back([], environment="prod", plan=made, copy=COPY)[0].loses.startswith("there is none: repeatables")
    assert ways_back([], environment="prod", plan=planned(ONE, pending=()), copy=COPY) == ()
