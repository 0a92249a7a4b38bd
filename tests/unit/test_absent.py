"""What a plan needs that a copy does not have is a doubt, told by name; what only refers to it is none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lockstep.core.migration import SqlFile
from lockstep.core.rehearsal.absent import absent_problems, excused
from lockstep.core.rehearsal.report import Copy
from lockstep.core.rehearsal.verdict import Outcome, Problem


def copy(**more: object) -> Copy:
    return Copy(
        backup="b", taken_at=datetime(2026, 1, 1, tzinfo=UTC), size=1, server_version="17", source_version="17",
        restore_ms=1, isolated=True, **more,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "doubtful"),
    [
        ("CREATE TABLE a (u uuid REFERENCES auth.users (id))", False),
        ("ALTER TABLE a ADD FOREIGN KEY (u) REFERENCES auth.users (id)", False),
        ("CREATE POLICY p ON storage.objects USING (true)", False),
        ("DROP POLICY p ON storage.objects", False),
        ("DROP TRIGGER t ON auth.users", False),
        ("CREATE VIEW v AS SELECT * FROM auth.users", False),
        ("INSERT INTO a SELECT id FROM auth.users", True),
        ("UPDATE storage.objects SET name = ''", True),
        ("ALTER TABLE auth.users ADD COLUMN n int", True),
        ("DROP TABLE auth.users", True),
        ("CREATE EXTENSION IF NOT EXISTS vector", True),
        ("DROP EXTENSION vector", True),
        ("CREATE EXTENSION hstore", False),
        ("ALTER TABLE docs ADD COLUMN n int", True),
        ("ALTER TABLE other.docs ADD COLUMN n int", False),
        ("DROP VIEW public.doc_ids", True),
        ("ALTER TABLE orders ADD COLUMN n int", False),
    ],
)
def test_what_a_statement_needs(text: str, doubtful: bool) -> None:
    on = copy(
        lacking=("vector",),
        left_out=("TABLE public.docs", "VIEW public.doc_ids", "FUNCTION public.docs(vector)"),
        stand_ins=("auth", "storage"),
    )
    file = SqlFile(name="001-a.sql", text=text + ";", checksum="")
    found = list(absent_problems(on, [file]))
    assert [one.outcome for one in found] == ([Outcome.UNVERIFIED] if doubtful else [])


def test_a_whole_copy_leaves_no_doubt() -> None:
    file = SqlFile(name="001-a.sql", text="CREATE EXTENSION vector;", checksum="")
    assert not list(absent_problems(copy(), [file]))


def test_a_failure_that_may_come_of_it_is_a_doubt() -> None:
    failure = Problem(outcome=Outcome.FAILED, rule="fails", message="m")
    assert excused(failure, "42883", copy(lacking=("vector",))).outcome is Outcome.UNVERIFIED
    assert excused(failure, "42883", copy()) is failure
    assert excused(failure, "23505", copy(lacking=("vector",))) is failure
    assert excused(failure, "42501", copy(service="Supabase")).outcome is Outcome.UNVERIFIED
    assert excused(failure, "42501", copy()) is failure
