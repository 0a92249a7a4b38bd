"""COMMIT and ROLLBACK in DO blocks are found without running anything, and names that look so are not."""

from __future__ import annotations

import pytest

from lockstep.core.do_blocks import ends_transactions, place_of_end
from lockstep.core.statements import parse_script
from lockstep.errors import MigrationFileError


@pytest.mark.parametrize(
    "body",
    [
        "BEGIN COMMIT; END",
        "begin\n  update t set a = 1;\n  commit;\nend",
        "BEGIN IF x THEN ROLLBACK; END IF; END",
        "BEGIN IF x THEN NULL; ELSE COMMIT AND CHAIN; END IF; END",
        "BEGIN FOR r IN SELECT 1 LOOP COMMIT; END LOOP; END",
        "BEGIN -- a comment\n /* another */ COMMIT /* ; */ ; END",
        "BEGIN PERFORM 'é'; ROLLBACK AND NO CHAIN; END",
        "BEGIN NULL; EXCEPTION WHEN OTHERS THEN ROLLBACK; END",
    ],
)
def test_a_body_that_ends_transactions_is_found(body: str) -> None:
    assert ends_transactions(body)


@pytest.mark.parametrize(
    "body",
    [
        "BEGIN NULL; END",
        "BEGIN RAISE NOTICE 'COMMIT;'; END",
        "BEGIN NULL; -- then COMMIT;\n END",
        "DECLARE commit int; BEGIN commit := 1; END",
        "DECLARE x int; commit boolean; BEGIN x := commit; END",
        "BEGIN INSERT INTO commits (commit, rollback) VALUES (1, 2); END",
        "BEGIN SELECT commit FROM t; END",
        "BEGIN PERFORM $q$ ; COMMIT; $q$; END",
        "BEGIN unterminated 'COMMIT;",
        "",
    ],
)
def test_a_name_a_text_or_a_comment_is_no_end_of_a_transaction(body: str) -> None:
    assert not ends_transactions(body)


@pytest.mark.parametrize(
    ("text", "line", "under"),
    [
        ("SELECT 1;\nDO $$\nBEGIN\n  PERFORM 'é';\n  COMMIT;\nEND $$;", 5, "COMMIT"),
        ("DO LANGUAGE plpgsql $body$ BEGIN IF true THEN ROLLBACK; END IF; END $body$;", 1, "ROLLBACK"),
        ("SELECT 1;\n  DO 'BEGIN COMMIT; END';", 2, "DO"),
    ],
)
def test_a_commit_in_a_block_is_an_error_before_anything_runs(text: str, line: int, under: str) -> None:
    with pytest.raises(MigrationFileError, match="COMMIT or ROLLBACK in a DO block cannot run inside") as caught:
        parse_script(text, "007-x.sql")
    error = caught.value
    assert error.line == line and error.column
    assert text.split("\n")[line - 1][error.column - 1 :].startswith(under)
    assert error.hint and "transaction=none" in error.hint
    assert error.excerpt and "^" in error.excerpt


def test_a_block_of_another_language_is_left_to_the_server() -> None:
    assert parse_script("DO LANGUAGE plpython3u 'x = 1; commit;';", "f.sql").statements


def test_the_same_block_is_fine_outside_of_a_transaction() -> None:
    script = parse_script("DO $$ BEGIN COMMIT; END $$;", "f.sql", transactional=False)
    assert script.statements[0].alone == "COMMIT or ROLLBACK in a DO block"


def test_no_place_is_told_where_there_is_none() -> None:
    assert place_of_end("DO $$ BEGIN NULL; END $$") is None
    assert place_of_end("DO 'BEGIN COMMIT; END'") is None
