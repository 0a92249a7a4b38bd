"""What a dump's round trip prints anew is the same; what only looks like it is not."""

from __future__ import annotations

import pytest

from lockstep.core.expressions import same_meaning
from lockstep.core.fingerprint import SchemaObject

#: The two forms of `state IN ('a', 'b')` where `state` is a varchar: as it was written, and after a restore.
WRITTEN = "((state)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))"
RESTORED = "((state)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text]))"

#: kind, definition, body; `{}` stands for the expression.
SHAPES: dict[str, tuple[str, str, str | None]] = {
    "check": ("constraint", "CHECK ({}) NOT VALID", None),
    "exclusion": ("constraint", "EXCLUDE USING gist (period WITH &&) WHERE ({}) WITH (fillfactor=70)", None),
    "index": ("index", "CREATE INDEX i ON app.t USING btree (a) WHERE {} ALTER COLUMN 1 SET STATISTICS 5 INVALID", None),
    "generated column": ("column", "boolean GENERATED ALWAYS AS ({}) STORED STATISTICS 50 (n_distinct=5) INHERITED", None),
    "policy": ("policy", "PERMISSIVE FOR ALL TO PUBLIC", " USING ({})"),
    "view": ("view", "COLUMNS (a integer)", " SELECT a\n   FROM app.t\n  WHERE {};"),
    "rule": ("rule", "ON DELETE INSTEAD", "CREATE RULE r AS ON DELETE TO app.t WHERE {} DO INSTEAD NOTHING;"),
    "trigger": ("trigger", "CREATE TRIGGER t BEFORE UPDATE ON app.t FOR EACH ROW WHEN ({}) EXECUTE FUNCTION f() DISABLED", None),
    "statistics": ("statistics", "CREATE STATISTICS app.s ON a, ({}) FROM app.t STATISTICS 300", None),
    "function": ("function", "CREATE FUNCTION f()\n", "BEGIN ATOMIC\n SELECT {};\nEND"),
}  # fmt: skip


def make(shape: str, expression: str) -> SchemaObject:
    kind, definition, body = SHAPES[shape]
    return SchemaObject(
        kind, "app", "t", "x", definition.replace("{}", expression), body and body.replace("{}", expression)
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_list_of_varchars_means_the_same_after_a_restore_wherever_it_stands(shape: str) -> None:
    assert same_meaning(make(shape, WRITTEN), make(shape, RESTORED))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("old", "new"),
    [("'b'", "'c'"), (", ('b'::character varying)::text", ""), ("= ANY", "<> ALL"), ("(state)::text", "state"), ("state", "stage")],
)  # fmt: skip
def test_a_list_with_other_values_is_another_one(shape: str, old: str, new: str) -> None:
    other = RESTORED.replace(old, new)
    assert other != RESTORED
    assert not same_meaning(make(shape, WRITTEN), make(shape, other))


@pytest.mark.parametrize(
    ("shape", "old", "new"),
    [
        ("check", " NOT VALID", ""),
        ("exclusion", "WITH (fillfactor=70)", "WITH (fillfactor=80)"),
        ("exclusion", "WITH &&", "WITH ="),
        ("index", " INVALID", ""),
        ("index", "STATISTICS 5", "STATISTICS 6"),
        ("generated column", " INHERITED", ""),
        ("generated column", "STATISTICS 50", "STATISTICS 51"),
        ("policy", "TO PUBLIC", "TO app"),
        ("view", "COLUMNS (a integer)", "COLUMNS (a bigint)"),
        ("rule", "ON DELETE INSTEAD", "ON DELETE INSTEAD DISABLED"),
        ("trigger", " DISABLED", ""),
        ("statistics", "STATISTICS 300", "STATISTICS 301"),
        ("function", "FUNCTION f()", "FUNCTION f(a integer)"),
    ],
)
def test_what_stands_beside_the_expression_still_counts(shape: str, old: str, new: str) -> None:
    one, other = make(shape, WRITTEN), make(shape, RESTORED)
    other = other._replace(definition=other.definition.replace(old, new))
    assert other.definition != make(shape, RESTORED).definition
    assert not same_meaning(one, other)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("(((a >= 1) AND (a <= 2)) AND (b > 3))", "((a >= 1) AND (a <= 2) AND (b > 3))"),
        ("((b > 3) AND ((a >= 1) AND (a <= 2)))", "((b > 3) AND (a >= 1) AND (a <= 2))"),
        ("(((a) OR (b)) OR (c))", "((a) OR (b) OR (c))"),
    ],
)
def test_an_and_in_an_and_and_an_or_in_an_or_mean_the_same(left: str, right: str) -> None:
    assert same_meaning(make("check", left), make("check", right))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("(a AND (b OR c))", "((a AND b) OR c)"),
        ("(a AND b AND c)", "(a AND c AND b)"),  # another order may raise another error
        ("(NOT (a AND b))", "((NOT a) AND b)"),
        ("(email = other)", "((email)::text = (other)::text)"),  # of a citext: another comparison
        ("(mood < other)", "((mood)::text < (other)::text)"),  # of an enum: another order
        ("(a = ANY ((ARRAY['1'::text])::integer[]))", "(a = ANY ((ARRAY['1'::text])::bigint[]))"),
        ("((ARRAY[]::text[]) = b)", "((ARRAY[]::integer[]) = b)"),
        ("(a = ANY ((ARRAY['abc'::character varying(2)])::text[]))", "(a = ANY (ARRAY[('abc'::character varying)::text]))"),
        ("(a = ANY ((ARRAY[ARRAY['x'::varchar]])::text[]))", "(a = ANY ((ARRAY[ARRAY['y'::varchar]])::text[]))"),
        ("(a = 1)", "(a = 2)"),
        ("((a + b) * c)", "(a + (b * c))"),
    ],
)  # fmt: skip
def test_what_only_looks_alike_is_different(left: str, right: str) -> None:
    assert not same_meaning(make("check", left), make("check", right))


def test_what_cannot_be_parsed_is_different() -> None:
    assert not same_meaning(make("check", "(a >"), make("check", "(a >="))


def test_kinds_without_expressions_are_never_the_same_by_meaning() -> None:
    one = SchemaObject("table", "app", "", "t", "UNLOGGED")
    assert not same_meaning(one, one._replace(definition=""))
