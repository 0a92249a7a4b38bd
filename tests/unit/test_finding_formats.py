"""Reports in the formats of CI systems: nothing gets lost, nothing breaks out, and identities are stable."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import lockstep
from lockstep.core.finding_formats import github, junit, sarif
from lockstep.core.findings import CheckedFile, Finding, Report, Severity
from lockstep.core.rules import RULES

SOURCE = Path(lockstep.__file__).parent
REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"


def finding(rule: str, file: str, **more: Any) -> Finding:
    given = {"severity": Severity.ERROR, "line": None, "column": None, "message": f"{rule} is wrong"}
    return Finding(rule=rule, file=file, **{**given, **more})


HOSTILE = "100% wrong: a,b\r\n::error::no\x1b[31m\x00\ufffe ]]> <&\"'> \udcff é 😀"

REPORT = Report(
    folder="migrations",
    path="shop/migrations",
    files=(
        CheckedFile(name="001-a b.sql", text="SELECT 1;\nSELECT 'é' frm a b;\nSELECT 1;\n"),
        CheckedFile(name="002-fine.sql", text="SELECT 2;\n"),
        CheckedFile(name="003-,:%.sql", text=None),
    ),
    findings=(
        finding("parse", "001-a b.sql", line=2, column=18, hint="mend it", excerpt="  2 | SELECT 'é' frm a b;\n    |"),
        finding("some-lint", "001-a b.sql", line=1, column=1, severity=Severity.WARNING),
        finding("some-lint", "001-a b.sql", line=3, column=1, severity=Severity.WARNING),
        finding("missing-down", "001-a b.sql", severity=Severity.WARNING, hint="write one"),
        finding("file", "003-,:%.sql", message=HOSTILE, hint=HOSTILE, line=4),
        finding("removed-since-base", "005-gone.sql"),
        finding("gap", "migrations", severity=Severity.WARNING),
        finding("name", "caf\udce9.sql"),
    ),
)


def log() -> Any:
    return json.loads(sarif(REPORT))


# -- SARIF --------------------------------------------------------------------------------------------------------


def test_sarif_is_as_it_was(golden: Callable[[str, str], None]) -> None:
    document = log()
    driver = document["runs"][0]["tool"]["driver"]
    del driver["rules"]  # their texts are tested apart
    driver["version"] = driver["semanticVersion"] = "VERSION"
    golden("validate.sarif", json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def test_sarif_has_what_the_standard_and_code_scanning_require() -> None:
    """SARIF 2.1.0 §3.13, §3.14, §3.19, §3.27 to §3.30, and what GitHub's page on SARIF support marks as required."""
    document = log()
    assert document["version"] == "2.1.0"
    assert document["$schema"].endswith("/sarif-schema-2.1.0.json")
    (run,) = document["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "Lockstep"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", driver["semanticVersion"])
    assert run["columnKind"] == "unicodeCodePoints"
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(ids) == len(set(ids))
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"] and rule["fullDescription"]["text"] and rule["help"]["text"]
        assert len(rule["fullDescription"]["text"]) <= 1024
        assert rule["defaultConfiguration"]["level"] in {"error", "warning"}
    assert len(run["results"]) == len(REPORT.findings)
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in {"error", "warning"}
        assert result["message"]["text"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert place["artifactLocation"]["uriBaseId"] in run["originalUriBaseIds"]
        assert re.fullmatch(r"[A-Za-z0-9._~%-]+(/[A-Za-z0-9._~%-]+)*", place["artifactLocation"]["uri"])
        region = place["region"]
        assert 1 <= region["startLine"] == region["endLine"]
        assert 1 <= region["startColumn"] <= region["endColumn"]
        assert re.fullmatch(r"[0-9a-f]{16}:\d+", result["partialFingerprints"]["primaryLocationLineHash"])


def test_a_result_keeps_its_identity_when_lines_come_before_it() -> None:
    def identities(report: Report) -> list[str]:
        results = json.loads(sarif(report))["runs"][0]["results"]
        return [result["partialFingerprints"]["primaryLocationLineHash"] for result in results]

    text = REPORT.files[0].text or ""
    moved = replace(
        REPORT,
        files=(replace(REPORT.files[0], text=f"-- new\n\n  {text}"), *REPORT.files[1:]),
        findings=tuple(replace(f, line=f.line + 2) if f.line else f for f in REPORT.findings),
    )
    assert identities(moved) == identities(REPORT)
    same_file = identities(REPORT)[:4]
    assert len(set(same_file)) == 4, "two findings of one rule on equal lines are two"
    other = replace(REPORT, files=(replace(REPORT.files[0], text=text.replace("frm", "fro")), *REPORT.files[1:]))
    assert identities(other)[0] != identities(REPORT)[0]


def test_every_rule_that_the_code_names_has_its_help() -> None:
    """Rules are literals: of `rule=`, or the first or second word of the helpers that make findings."""
    named: set[str] = set()
    for module in ("core/branching.py", "service/validating.py"):
        for node in ast.walk(ast.parse((SOURCE / module).read_text())):
            if isinstance(node, ast.Call):
                words = [k.value for k in node.keywords if k.arg == "rule"]
                called = node.func.id if isinstance(node.func, ast.Name) else ""
                words += {"finding": node.args[1:2], "_from_error": node.args[:1]}.get(called, [])
                named |= {str(w.value) for w in words if isinstance(w, ast.Constant)}
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "rule":
                named |= {str(node.value.value)} if isinstance(node.value, ast.Constant) else set()
    assert {"older-than-base", "duplicate-on-base", "gap", "parse", "missing-down"} <= named
    assert named == {rule.name for rule in RULES}


def test_the_reference_has_every_rule_with_its_severity() -> None:
    page = REFERENCE.read_text().split("## lockstep validate\n")[1].split("\n## ")[0]
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (error|warning) \|", page, re.MULTILINE))
    assert listed == {rule.name: rule.severity.value for rule in RULES}


# -- GitHub -------------------------------------------------------------------------------------------------------


def test_github_is_as_it_was(golden: Callable[[str, str], None]) -> None:
    golden("validate.github", github(REPORT) + "\n")


def test_a_hostile_text_stays_inside_its_command() -> None:
    lines = github(REPORT).split("\n")
    assert len(lines) == len(REPORT.findings) + 1
    commands = [re.fullmatch(r"::(error|warning) ([^\r]*?)::([^\r]*)", line) for line in lines[:-1]]
    assert all(commands)
    for command, one in zip(commands, REPORT.findings, strict=True):
        assert command
        properties = dict(part.split("=", 1) for part in command[2].split(","))
        assert properties["title"] == f"lockstep {one.rule}"
        assert ("line" in properties) == (one.line is not None)
    assert "file=shop/migrations/003-%2C%3A%25.sql," in lines[4]
    assert "100%25 wrong: a,b%0D%0A::error::no" in lines[4]
    "\n".join(lines).encode()  # can be written


# -- JUnit --------------------------------------------------------------------------------------------------------


def test_junit_is_as_it_was(golden: Callable[[str, str], None]) -> None:
    golden("validate.junit.xml", junit(REPORT, strict=False) + "\n")


def test_junit_has_a_case_per_file_and_fails_those_with_errors() -> None:
    (suite,) = ElementTree.fromstring(junit(REPORT, strict=False))
    cases = {case.get("name"): case for case in suite}
    assert list(cases) == [
        "migrations", "001-a b.sql", "002-fine.sql", "003-,:%.sql", "005-gone.sql", "caf\ufffd.sql",
    ]  # fmt: skip
    failed = [name for name, case in cases.items() if case.find("failure") is not None]
    assert failed == ["001-a b.sql", "003-,:%.sql", "005-gone.sql", "caf\ufffd.sql"]
    assert (suite.get("tests"), suite.get("failures")) == ("6", "4")
    assert "gap is wrong" in (cases["migrations"].findtext("system-out") or "")
    assert "missing-down" in (cases["001-a b.sql"].findtext("system-out") or "")
    assert "mend it" in (cases["001-a b.sql"].findtext("failure") or "")
    assert list(cases["002-fine.sql"]) == []
    assert cases["001-a b.sql"].get("file") == "shop/migrations/001-a b.sql"


def test_with_strict_warnings_fail_their_case_too() -> None:
    (suite,) = ElementTree.fromstring(junit(REPORT, strict=True))
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert "migrations" in failed and "002-fine.sql" not in failed
    assert list(suite.iter("system-out")) == []


def test_junit_holds_no_character_that_xml_forbids_and_loses_no_other() -> None:
    text = junit(REPORT, strict=False)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", text)
    (suite,) = ElementTree.fromstring(text)
    block = next(case.findtext("failure") for case in suite if case.get("name") == "003-,:%.sql")
    assert block and "]]> <&\"'> \ufffd é 😀" in block


def test_a_report_without_findings_is_whole_in_every_format() -> None:
    clean = Report(folder=".", path="", files=(CheckedFile(name="001-a.sql", text=""),), findings=())
    assert json.loads(sarif(clean))["runs"][0]["results"] == []
    assert github(clean) == "1 file checked: 0 errors, 0 warnings"
    (suite,) = ElementTree.fromstring(junit(clean, strict=True))
    assert [(case.get("name"), case.get("file"), len(case)) for case in suite] == [
        (".", ".", 0),
        ("001-a.sql", "001-a.sql", 0),
    ]
