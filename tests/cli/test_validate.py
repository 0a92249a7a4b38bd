"""`lockstep validate` as CI calls it: against a base branch in a real git repository, in every output format."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.project import Outcome, Project

#: No configuration of this machine's user or system.
ISOLATED = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_SYSTEM": os.devnull}
STRANGER = {"GIT_AUTHOR_DATE": "2026-03-12T10:00:00Z", "GIT_COMMITTER_DATE": "2026-03-12T10:00:00Z"}


@dataclass
class Branch(Project):
    """A project in a git repository: `main` has 001 and 002 with a down, and `feature` is checked out."""

    def git(self, *words: str, cwd: Path | None = None) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(
            ["git", *words], cwd=cwd or self.folder, env={**kept, **ISOLATED, **STRANGER},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, at: Path) -> None:
        self.git("init", "--quiet", "--initial-branch=main", str(at))
        self.git("config", "user.name", "Ada")
        self.git("config", "user.email", "ada@example.com")

    def commit(self, message: str = "change") -> None:
        self.git("add", "--all", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def add(self, number: int, name: str, column: str = "id") -> None:
        """A migration that no rule has anything against, with its down."""
        self.write(f"{number:03d}-{name}.sql", f"CREATE TABLE public.{name} ({column} bigint PRIMARY KEY);\n")
        self.write(f"{number:03d}-{name}.down.sql", f"DROP TABLE public.{name};\n")

    def on_main(self, number: int, name: str) -> None:
        """The base goes on meanwhile, without this branch."""
        self.git("checkout", "--quiet", "main")
        self.add(number, name)
        self.commit()
        self.git("checkout", "--quiet", "feature")

    def validate(self, *words: str, base: str = "main") -> Outcome:
        return self.run("validate", "--strict", f"--base={base}", *words)

    def found(self, *words: str, base: str = "main") -> list[tuple[str, str, str, int | None]]:
        done = self.run("validate", f"--base={base}", "--json", *words)
        assert done.code in (0, 7), done.out
        return [(f["severity"], f["rule"], f["file"], f["line"]) for f in done.document["findings"]]


@pytest.fixture
def branch(tmp_path: Path) -> Branch:
    made = Branch(folder=tmp_path / "shop", urls={"dev": "postgresql://u@127.0.0.1:1/d"}, variables=dict(ISOLATED))
    (made.folder / "migrations").mkdir(parents=True)
    made.configure()
    made.start(made.folder)
    made.add(1, "a")
    made.add(2, "b")
    made.commit()
    made.git("checkout", "--quiet", "-b", "feature")
    return made


# -- what is found ------------------------------------------------------------------------------------------------


def test_a_branch_that_adds_the_next_number_is_fine(branch: Branch) -> None:
    branch.add(3, "c")
    done = branch.validate()
    assert (done.code, done.out, done.err) == (0, "6 files checked: 0 errors, 0 warnings\n", "")


def test_a_file_older_than_the_newest_on_the_base_is_found_and_renumbered_by_the_hint(branch: Branch) -> None:
    branch.add(3, "late")
    branch.commit()
    branch.on_main(4, "theirs")
    done = branch.validate()
    assert done.code == 7
    assert done.out == (
        "003-late.sql: error: is older than 004-theirs.sql, the newest on main: "
        "where that one is applied, this one comes out of order [older-than-base]\n"
        "  next: 005 is the next free number: git mv migrations/003-late.sql migrations/005-late.sql"
        " && git mv migrations/003-late.down.sql migrations/005-late.down.sql\n"
        "6 files checked: 1 error, 0 warnings\n"
    )
    command = done.out.split("number: ")[1].splitlines()[0]
    subprocess.run(["bash", "-ec", command], cwd=branch.folder, env={**os.environ, **ISOLATED}, check=True)
    # 003 is a hole now, which numbers renumbered on purpose leave; 004 is the base's and none.
    assert branch.found() == [("warning", "gap", "migrations", None)]


def test_a_number_that_is_used_twice_is_found_before_and_after_the_base_is_merged(branch: Branch) -> None:
    branch.add(3, "ours")
    branch.commit()
    branch.on_main(3, "theirs")
    once = [("error", "duplicate-on-base", "003-ours.sql", None)]
    assert branch.found() == once
    branch.git("merge", "--quiet", "--no-edit", "main")
    assert branch.found() == once
    assert [f["rule"] for f in branch.run("validate", "--json").document["findings"]] == ["duplicate", "duplicate"]


def test_a_number_that_the_base_fills_is_no_gap(branch: Branch) -> None:
    branch.add(4, "ours")
    branch.commit()
    branch.on_main(3, "theirs")
    assert branch.found() == []


def test_what_is_neither_committed_nor_added_counts(branch: Branch) -> None:
    branch.write("002-b.sql", "CREATE TABLE public.b (id bigint PRIMARY KEY);\nSELECT 1;\n")
    branch.add(1, "ours")
    assert branch.found() == [
        ("error", "duplicate-on-base", "001-ours.sql", None),
        ("error", "changed-since-base", "002-b.sql", 2),
    ]


def test_a_change_that_was_committed_and_merged_is_found_from_the_base_as_it_was(branch: Branch) -> None:
    branch.write("001-a.sql", "CREATE TABLE public.a (id bigint PRIMARY KEY, n bigint);\n")
    branch.commit()
    branch.git("checkout", "--quiet", "main")
    branch.git("merge", "--quiet", "feature")
    assert branch.found(base="HEAD") == []
    assert branch.found(base="HEAD~1") == [("error", "changed-since-base", "001-a.sql", 1)]


def test_no_file_can_allow_its_own_change_but_a_reformatting_it_can(branch: Branch) -> None:
    text = "CREATE TABLE public.a\n  (id bigint PRIMARY KEY);\n"
    branch.write("001-a.sql", text)
    assert branch.found() == [("warning", "reformatted-since-base", "001-a.sql", 1)]
    assert branch.validate().code == 7  # --strict
    branch.write("001-a.sql", f'-- lockstep: allow=reformatted-since-base reason="house style"\n{text}')
    assert branch.found() == []
    branch.write(
        "001-a.sql", f'-- lockstep: allow=changed-since-base reason="no"\n{text.replace("id bigint", "id uuid")}'
    )
    assert branch.found() == [("error", "changed-since-base", "001-a.sql", 3)]


def test_a_removed_and_a_renamed_file_of_the_base_are_errors(branch: Branch) -> None:
    branch.remove("001-a.sql")
    branch.git("mv", "migrations/002-b.sql", "migrations/002-better.sql")
    assert branch.found() == [
        ("warning", "orphan", "001-a.down.sql", None),
        ("error", "removed-since-base", "001-a.sql", None),
        ("error", "renamed-since-base", "002-better.sql", None),
    ]


@pytest.mark.parametrize("text", ["-- lockstep: transaction=off\nSELECT 1;\n", b"SELECT '\xff';\n"])
def test_a_broken_file_is_one_finding(branch: Branch, text: str | bytes) -> None:
    branch.add(3, "c")
    branch.add(4, "d")
    branch.write("003-c.sql", text)
    assert branch.found() == [("error", "file", "003-c.sql", 1)]
    branch.add(3, "c")
    branch.write("003-c.down.sql", text)
    assert branch.found() == [("error", "file", "003-c.down.sql", 1)]


def test_downs_verify_scripts_and_repeatables_may_change(branch: Branch) -> None:
    branch.write("repeatable/totals.sql", "SELECT 1;")
    branch.commit()
    branch.git("branch", "--force", "main")
    branch.write("repeatable/totals.sql", "SELECT 2;")
    branch.write("001-a.down.sql", "DROP TABLE IF EXISTS public.a;\n")
    branch.write("002-b.verify.sql", "SELECT true;")
    assert branch.found() == []


def test_what_the_base_changed_meanwhile_is_not_this_branchs_doing(branch: Branch) -> None:
    branch.git("checkout", "--quiet", "main")
    branch.write("001-a.sql", "SELECT 'somebody else';\n")
    branch.remove("002-b.sql")
    branch.add(3, "theirs")
    branch.commit()
    branch.git("checkout", "--quiet", "feature")
    assert branch.found() == []


def test_a_version_named_as_unapplied_may_change(branch: Branch) -> None:
    branch.write("002-b.sql", "CREATE TABLE public.b (id uuid PRIMARY KEY);\n")
    assert branch.validate("--unapplied", "2").code == 0
    assert branch.validate("--unapplied", "1").code == 7
    unknown = branch.validate("--unapplied", "9")
    assert (unknown.code, "main has no migration of that number" in unknown.err) == (2, True)
    alone = branch.run("validate", "--unapplied", "2")
    assert (alone.code, "--unapplied belongs to --base" in alone.err) == (2, True)


# -- how git is read ----------------------------------------------------------------------------------------------


def test_line_ends_that_a_checkout_makes_are_no_change(branch: Branch) -> None:
    branch.write("003-bom.sql", b"\xef\xbb\xbfCREATE TABLE public.c (id bigint PRIMARY KEY);\r\n")
    branch.write("003-bom.down.sql", "DROP TABLE public.c;\n")
    branch.commit()
    branch.git("branch", "--force", "main")
    branch.git("config", "core.autocrlf", "true")
    (branch.folder / "migrations" / "001-a.sql").unlink()
    branch.git("checkout", "--quiet", "--", "migrations/001-a.sql")
    assert b"\r\n" in (branch.folder / "migrations" / "001-a.sql").read_bytes()
    branch.write("003-bom.sql", "CREATE TABLE public.c (id bigint PRIMARY KEY);\n")
    assert branch.found() == []


def test_a_project_below_the_root_with_its_migrations_elsewhere_is_compared(tmp_path: Path) -> None:
    made = Branch(folder=tmp_path / "apps" / "sh[o]p", urls={"dev": "x"}, variables=dict(ISOLATED))
    made.folder.mkdir(parents=True)
    made.toml = '[project]\nmigrations = "../../db/*: é/"\n'
    made.configure()
    made.start(tmp_path)
    home = tmp_path / "db" / "*: é"
    home.mkdir(parents=True)
    (home / "001-a.sql").write_text("CREATE TABLE public.a (id bigint PRIMARY KEY);\n")
    (home / "001-a.down.sql").write_text("DROP TABLE public.a;\n")
    (tmp_path / "db" / "xx").mkdir()
    (tmp_path / "db" / "xx" / "009-not-ours.sql").write_text("SELECT 1;\n")
    made.git("add", "--all", ".", cwd=tmp_path)
    made.git("commit", "--quiet", "--message", "one")
    (home / "001-a.sql").write_text("CREATE TABLE public.a (id uuid PRIMARY KEY);\n")
    done = made.validate("--format", "github")
    assert done.code == 7
    assert done.out.startswith("::error file=db/*%3A é/001-a.sql,line=1,title=lockstep changed-since-base::")
    assert len(done.out.splitlines()) == 2
    document = json.loads(made.validate("--format", "sarif").out)
    (result,) = document["runs"][0]["results"]
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == "db/%2A%3A%20%C3%A9/001-a.sql"


def test_many_files_cost_one_listing_a_commit_and_one_reader(branch: Branch, tmp_path: Path) -> None:
    for number in range(3, 60):
        branch.add(number, f"t{number}")
    branch.commit()
    branch.git("branch", "--force", "main")
    branch.on_main(60, "later")
    branch.variables["GIT_TRACE"] = str(tmp_path / "trace")
    assert branch.found() == []
    calls = (tmp_path / "trace").read_text()
    assert calls.count("built-in: git ls-tree") == 2
    assert calls.count("built-in: git cat-file") == 1


def test_a_linked_file_is_followed_within_the_commit(branch: Branch) -> None:
    (branch.folder / "shared.sql").write_text("CREATE TABLE public.c (id bigint PRIMARY KEY);\n")
    (branch.folder / "migrations" / "003-c.sql").symlink_to("../shared.sql")
    branch.write("003-c.down.sql", "DROP TABLE public.c;\n")
    branch.commit()
    branch.git("branch", "--force", "main")
    assert branch.found() == []
    (branch.folder / "shared.sql").write_text("CREATE TABLE public.c (id uuid PRIMARY KEY);\n")
    assert branch.found() == [("error", "changed-since-base", "003-c.sql", 1)]


def test_a_hooks_variables_do_not_lead_to_another_repository(branch: Branch, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    branch.git("init", "--quiet", str(tmp_path / "other"))
    branch.write("001-a.sql", "SELECT 1;\n")
    branch.variables |= {"GIT_DIR": str(tmp_path / "other" / ".git"), "GIT_WORK_TREE": str(tmp_path / "other")}
    assert ("error", "changed-since-base", "001-a.sql", 1) in branch.found()


def test_a_base_without_the_folder_is_said(branch: Branch) -> None:
    branch.git("checkout", "--quiet", "--orphan", "empty")
    branch.git("rm", "-r", "--quiet", "--cached", ".")
    branch.git("commit", "--quiet", "--allow-empty", "--message", "empty")
    branch.git("checkout", "--quiet", "--force", "-b", "start")
    branch.add(1, "a")
    branch.commit()
    done = branch.validate(base="empty")
    assert (done.code, done.err) == (0, "empty has no migration in migrations: every file counts as new\n")


# -- what cannot be compared --------------------------------------------------------------------------------------


def refused(done: Outcome, message: str, hint: str) -> None:
    assert done.code == 2, done.out
    assert done.out == ""
    assert message in done.err
    assert hint in done.err


def test_a_folder_in_no_work_tree_is_said(tmp_path: Path) -> None:
    made = Branch(folder=tmp_path, urls={"dev": "x"}, variables={**ISOLATED, "GIT_CEILING_DIRECTORIES": str(tmp_path)})
    (tmp_path / "migrations").mkdir()
    made.configure()
    refused(made.validate(), "the migrations folder is in no git work tree", "leave --base away")


def test_a_repository_that_git_refuses_is_explained_in_gits_own_words(branch: Branch) -> None:
    (branch.folder / ".git" / "HEAD").write_text("nonsense")
    refused(branch.validate(), "git rev-parse failed (exit 128): fatal: ", "next: ")


def test_without_git_it_says_so(branch: Branch, tmp_path: Path) -> None:
    branch.variables["PATH"] = str(tmp_path)
    refused(branch.validate(), "--base needs git, which is not installed", "apt-get install git")
    assert branch.run("validate").code == 0


@pytest.mark.parametrize(
    ("revision", "hint"),
    [
        ("origin/develop", "git fetch origin develop:refs/remotes/origin/develop"),
        ("release/7", "git fetch origin release/7:refs/remotes/origin/release/7"),
        ("develop", "git fetch origin develop:refs/remotes/origin/develop"),
        ("main~99", "git log --oneline --all"),
        ("0123456789abcdef", "git log --oneline --all"),
        ("main:migrations", "git log --oneline --all"),
    ],
)
def test_an_unknown_revision_is_named_with_the_way_to_get_it(branch: Branch, revision: str, hint: str) -> None:
    refused(branch.validate(base=revision), f"there is no revision '{revision}' here", hint)


@pytest.mark.parametrize("revision", ["", "-x", "--all", "--output=made"])
def test_what_git_would_take_for_an_option_is_no_revision(branch: Branch, revision: str) -> None:
    refused(branch.validate(base=revision), f"'{revision}' is no git revision", "--base origin/main")
    assert list(branch.folder.rglob("made")) == []


@pytest.mark.parametrize("revision", ["$(touch made)", "main; touch made", "main\nHEAD", "main..HEAD"])
def test_a_revision_is_never_seen_by_a_shell(branch: Branch, revision: str) -> None:
    refused(branch.validate(base=revision), "there is no revision", "git log --oneline --all")
    assert list(branch.folder.rglob("made")) == []


def test_a_clone_without_a_local_branch_is_led_to_the_remote_one(branch: Branch, tmp_path: Path) -> None:
    branch.commit()
    clone = cloned(branch, tmp_path)
    refused(clone.validate(), "there is no revision 'main' here", "next: --base origin/main")
    assert clone.validate(base="origin/main").code == 0


def test_a_shallow_clone_is_told_to_fetch_more(branch: Branch, tmp_path: Path) -> None:
    branch.add(3, "c")
    branch.commit()
    branch.on_main(4, "d")
    clone = cloned(branch, tmp_path, "--depth=1", "--no-single-branch")
    refused(clone.validate(base="origin/main"), "this clone is shallow", "fetch-depth: 0")
    only_one = cloned(branch, tmp_path / "one", "--depth=1")
    refused(only_one.validate(base="origin/main"), "there is no revision 'origin/main'", "git fetch --unshallow")
    clone.git("fetch", "--quiet", "--unshallow")
    assert [f[1] for f in clone.found(base="origin/main")] == ["older-than-base"]


def test_branches_without_a_common_commit_are_said(branch: Branch) -> None:
    branch.git("checkout", "--quiet", "--orphan", "other")
    branch.commit("another beginning")
    refused(branch.validate(), "this branch and main have no commit in common", "the branch that it will be merged")


def test_before_the_first_commit_of_a_branch_all_its_files_are_new(branch: Branch) -> None:
    branch.git("checkout", "--quiet", "--orphan", "other")
    branch.add(1, "other")
    assert branch.found() == [("error", "duplicate-on-base", "001-other.sql", None)]


def cloned(branch: Branch, to: Path, *words: str) -> Branch:
    to.mkdir(exist_ok=True)
    branch.git("clone", "--quiet", *words, branch.folder.as_uri(), str(to / "clone"), cwd=to)
    return Branch(folder=to / "clone", urls=branch.urls, variables=dict(ISOLATED))


# -- formats ------------------------------------------------------------------------------------------------------


@pytest.fixture
def faulty(branch: Branch) -> Branch:
    branch.write("001-a.sql", "CREATE TABLE public.a (id uuid PRIMARY KEY);\n")
    branch.write(
        "004-d.sql", "CREATE TABLE public.d (id bigint PRIMARY KEY);\nALTER TABLE public.d ADD COLUMN n int;\n"
    )
    return branch


def test_json_is_the_same_by_either_option_and_says_what_it_was_compared_with(faulty: Branch) -> None:
    done = faulty.validate("--format", "json")
    assert (done.code, done.out) == (7, faulty.validate("--json").out)
    commit = faulty.git("rev-parse", "main")
    assert done.document["base"] == {"revision": "main", "commit": commit, "merge_base": commit, "migrations": 2}
    assert faulty.run("validate", "--json").document["base"] is None


def test_every_format_has_every_finding_and_the_same_exit_code(faulty: Branch) -> None:
    findings = [(f["rule"], f["message"]) for f in faulty.validate("--json").document["findings"]]
    assert {"changed-since-base", "gap", "missing-down"} < {rule for rule, _ in findings}
    for name in ("text", "json", "sarif", "github", "junit"):
        done = faulty.validate("--format", name)
        assert (done.code, done.err) == (7, "")
        for rule, _ in findings:
            assert rule in done.out
    results = json.loads(faulty.validate("--format", "sarif").out)["runs"][0]["results"]
    assert [r["ruleId"] for r in results] == [rule for rule, _ in findings]
    assert faulty.validate("--format", "github").out.count("\n::") + 1 == len(findings)


def test_junit_fails_by_warnings_only_with_strict(branch: Branch) -> None:
    branch.write("004-d.sql", "CREATE TABLE public.d (id bigint PRIMARY KEY);\n")
    failures = {}
    for words in ((), ("--strict",)):
        done = branch.run("validate", "--format", "junit", *words)
        (suite,) = ElementTree.fromstring(done.out)
        failures[done.code] = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failures == {0: [], 7: ["migrations", "004-d.sql"]}


def test_an_error_is_a_document_in_json_and_words_in_every_other_format(branch: Branch) -> None:
    done = branch.validate("--format", "json", base="nowhere")
    assert (done.code, done.err) == (2, "")
    assert done.document["format"] == "lockstep.error/1"
    refused(branch.validate("--format", "sarif", base="nowhere"), "there is no revision 'nowhere'", "git fetch")


def test_two_formats_at_once_are_refused(branch: Branch) -> None:
    done = branch.run("validate", "--json", "--format", "sarif")
    assert done.code == 2
    assert "ask for two documents" in done.out
    assert branch.run("validate", "--json", "--format", "json").code == 0


def test_a_new_column_of_varchar_is_not_told_as_one_that_is_changed(branch: Branch) -> None:
    branch.write("003-c.sql", "ALTER TABLE public.one ADD COLUMN code varchar(20);\n")
    said = branch.run("validate").out
    assert "prefer-text-field" in said and "to change the length of a `varchar(n)` later takes" in said
