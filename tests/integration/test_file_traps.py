"""Traps that real projects' migration files hold, beside those of test_apply, test_bad_files and tests/unit/test_files."""

from __future__ import annotations

from tests.project import Project


def test_a_new_enum_value_is_usable_in_the_next_file_and_not_in_its_own(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE people (m mood);")
    assert project.run("sync").code == 0
    project.write("002-b.sql", "ALTER TYPE mood ADD VALUE 'fine';\nINSERT INTO people VALUES ('fine');")
    done = project.run("sync")
    assert done.code == 6 and "002-b.sql:2" in done.err
    assert (
        "a new enum value can be used only after its own transaction: put its use into the next migration" in done.err
    )
    project.write("002-b.sql", "ALTER TYPE mood ADD VALUE 'fine';")
    project.write("003-c.sql", "INSERT INTO people VALUES ('fine');")
    assert project.run("sync").code == 0


def test_lock_table_has_the_transaction_that_it_needs(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.write("002-b.sql", "LOCK TABLE a IN EXCLUSIVE MODE;\nINSERT INTO a VALUES (1);")
    assert project.run("sync").code == 0


def test_a_file_that_relies_on_the_search_path_gets_the_configured_one_and_leaks_its_own(project: Project) -> None:
    project.run("init")
    project.configure(dev='search_path = "app, public"')
    project.write("001-a.sql", "CREATE SCHEMA app; CREATE TABLE a (id bigint); SET search_path = public;")
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    assert project.run("sync").code == 0
    assert project.query("SELECT to_regclass('app.a')::text, to_regclass('app.b')::text") == [("app.a", "app.b")]


def test_versions_are_numbers_whatever_their_padding(project: Project) -> None:
    project.run("init")
    for name in ("00010-ten.sql", "0002-two.sql", "9-nine.sql", "20260101120000-later.sql"):
        project.write(name, "SELECT 1;")
    assert project.run("sync").code == 0
    rows = project.query("SELECT migration_name FROM schema_migrations ORDER BY applied_at")
    assert [row[0] for row in rows] == ["0002-two.sql", "9-nine.sql", "00010-ten.sql", "20260101120000-later.sql"]


def test_dates_with_dashes_are_found_to_be_one_number(project: Project) -> None:
    project.run("init")
    project.write("2026-01-02-a.sql", "SELECT 1;")
    project.write("2026-01-03-b.sql", "SELECT 1;")
    project.write("20260104-c.sql", "SELECT 1;")
    done = project.run("sync")
    assert done.code == 7 and "2026-01-02-a.sql and 2026-01-03-b.sql have the same number" in done.err
    assert project.query("SELECT count(*) FROM schema_migrations") == [(0,)]


def test_a_down_belongs_to_its_up_by_number_whatever_it_is_called(project: Project) -> None:
    project.run("init")
    project.write("001-add-a.sql", "CREATE TABLE a (id bigint);")
    project.write("1-remove_it.down.sql", "DROP TABLE a;")
    project.run("sync")
    assert project.run("revert", "dev", "--steps", "1").code == 0
    assert project.query("SELECT to_regclass('a')") == [(None,)]


def test_a_down_with_a_syntax_error_is_found_before_anything_is_reverted(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.write("001-a.down.sql", "SELECT 1;\nDROPP TABLE a;")
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    project.write("002-b.down.sql", "DROP TABLE b;")
    assert "001-a.down.sql:2:1" in project.run("validate").out
    project.run("sync")
    done = project.run("revert", "dev", "--to", "none")
    assert done.code == 7, done
    assert "001-a.down.sql:2:1" in done.err and "syntax error" in done.err
    assert project.query("SELECT to_regclass('a')::text, to_regclass('b')::text") == [("a", "b")]


def test_placeholders_of_other_tools_are_clear_syntax_errors(project: Project) -> None:
    project.run("init")
    for placeholder in ("${NAME}", "{{ name }}", ":NAME"):
        project.write("001-a.sql", f"SELECT 1;\nCREATE TABLE {placeholder} (id int);")
        done = project.run("sync")
        assert done.code == 7 and "001-a.sql:2:14" in done.err, (placeholder, done)
        assert f"{placeholder} looks like a placeholder that nothing filled in" in done.err, done


def test_names_of_255_bytes_and_of_any_script_are_applied_shown_and_reverted(project: Project) -> None:
    project.run("init")
    names = ["001-" + "n" * 247 + ".sql", "002-" + "é" * 121 + ".sql", "003-שלום 🚀.sql"]
    for number, name in enumerate(names, start=1):
        assert len(name.encode()) <= 255
        project.write(name, f"CREATE TABLE t{number} (id bigint);")
        project.write(f"00{number}-back.down.sql", f"DROP TABLE t{number};")
    assert len(names[0]) == 255 and project.run("sync").code == 0
    assert project.query("SELECT migration_name FROM schema_migrations ORDER BY version") == [(name,) for name in names]
    for words in ("status", "history"):
        assert all(name.removesuffix(".sql") in project.run(words, "--json").out for name in names), words
        assert project.run(words).code == 0
    assert project.run("revert", "dev", "--to", "none").code == 0
    assert project.query("SELECT count(*) FROM schema_migrations") == [(0,)]
