"""A validation's report in the formats that CI systems read: SARIF 2.1.0, GitHub's workflow commands, JUnit XML.

Texts of files and people travel through here into formats with control characters of their own: each renderer escapes
all it is given. Deterministic: the same report gives the same text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from urllib.parse import quote
from xml.etree import ElementTree

from lockstep import __version__
from lockstep.core.counting import counted
from lockstep.core.findings import Finding, Report, Severity
from lockstep.core.rules import RULES, rule_of

# Names of files that are no UTF-8 hold lone surrogates, which no output can take.
_SURROGATE = re.compile("[\ud800-\udfff]")
# What XML 1.0 forbids, even escaped: https://www.w3.org/TR/xml/#charsets
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _text(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)


def summary(report: Report) -> str:
    """The last line for people: how many files, errors, warnings."""
    errors, warnings = report.count(Severity.ERROR), report.count(Severity.WARNING)
    return f"{counted(len(report.files), 'file')} checked: {counted(errors, 'error')}, {counted(warnings, 'warning')}"


# -- SARIF --------------------------------------------------------------------------------------------------------


def sarif(report: Report) -> str:
    """Return a SARIF 2.1.0 log with one run. Places are relative to %SRCROOT%, the repository's root.

    A finding without a line points to the first one: code scanning shows no result without a region. Its identity is
    the rule, the file and the text of the line, so it stays the same when lines above it come and go.
    """
    lint = {f.rule: rule_of(f.rule, f.severity) for f in report.findings}
    rules = list(RULES) + [lint[name] for name in sorted(lint.keys() - {rule.name for rule in RULES})]
    index = {rule.name: number for number, rule in enumerate(rules)}
    texts = {file.name: file.text for file in report.files}
    seen: Counter[tuple[str, str]] = Counter()
    results = []
    for finding in report.findings:
        line = _line(texts.get(finding.file), finding.line)
        start = finding.column or 1
        digest = hashlib.sha256(f"{finding.rule}\0{(line or '').strip()}".encode(errors="replace")).hexdigest()[:16]
        seen[finding.file, digest] += 1
        results.append(
            {
                "ruleId": finding.rule,
                "ruleIndex": index[finding.rule],
                "level": finding.severity.value,
                "message": {"text": _text(_message(finding))},
                "locations": [
                    {
                        "physicalLocation": {
                            "artifactLocation": {
                                "uri": _uri(report.path_of(finding.file)),
                                "uriBaseId": "%SRCROOT%",
                            },
                            "region": {
                                "startLine": finding.line or 1,
                                "startColumn": start,
                                "endLine": finding.line or 1,
                                "endColumn": max(len(line or "") + 1, start),
                            },
                        }
                    }
                ],
                "partialFingerprints": {"primaryLocationLineHash": f"{digest}:{seen[finding.file, digest]}"},
            }
        )
    driver = {
        "name": "Lockstep",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [
            {
                "id": rule.name,
                "shortDescription": {"text": rule.summary},
                "fullDescription": {"text": f"{rule.summary} {rule.why}"},
                "help": {"text": rule.why},
                "defaultConfiguration": {"level": rule.severity.value},
            }
            for rule in rules
        ],
    }
    log = {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The root of the repository."}}},
                "columnKind": "unicodeCodePoints",
                "results": results,
            }
        ],
    }
    return json.dumps(log, indent=2, ensure_ascii=False)


def _line(text: str | None, number: int | None) -> str | None:
    if text is None or number is None:
        return None
    lines = text.split("\n")
    return lines[number - 1] if number <= len(lines) else None


def _uri(path: str) -> str:
    """A relative reference: the bytes of the name, percent-encoded; no first part that reads like a scheme."""
    return quote(path.encode(errors="surrogateescape"), safe="/-._~")


def _message(finding: Finding) -> str:
    return f"{finding.message}\nNext: {finding.hint}" if finding.hint else finding.message


# -- GitHub -------------------------------------------------------------------------------------------------------


def github(report: Report) -> str:
    """Return workflow commands, one a line, which GitHub Actions shows beside the lines of a pull request."""
    return "\n".join([*(_command(report, finding) for finding in report.findings), summary(report)])


def _command(report: Report, finding: Finding) -> str:
    given = {
        "file": report.path_of(finding.file),
        "line": finding.line,
        "col": finding.column,
        "title": f"lockstep {finding.rule}",
    }
    properties = ",".join(f"{name}={_property(str(value))}" for name, value in given.items() if value is not None)
    return f"::{finding.severity.value} {properties}::{_data(_message(finding))}"


def _data(text: str) -> str:
    return _text(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# -- JUnit --------------------------------------------------------------------------------------------------------


def junit(report: Report, *, strict: bool) -> str:
    """Return JUnit XML: a test case per file, and one for the folder itself, so that there always is one.

    A case fails by an error, with `strict` by a warning too; other warnings are in its output.
    """
    names = sorted({file.name for file in report.files} | {f.file for f in report.findings} - {report.folder})
    cases = [_case(report, name, strict) for name in (report.folder, *names)]
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": "0",
        "skipped": "0",
    }
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "lockstep validate", **counts})
    suite.extend(cases)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode")


def _case(report: Report, name: str, strict: bool) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase", {"classname": "migrations", "name": _xml(name), "file": _xml(report.path_of(name))}
    )
    own = [f for f in report.findings if f.file == name]
    failing = [f for f in own if strict or f.severity is Severity.ERROR]
    if failing:
        # One element a case: several are more than the readers of this format take.
        first = {"message": _xml(failing[0].message), "type": _xml(failing[0].rule)}
        ElementTree.SubElement(case, "failure", first).text = _block(failing)
    if others := [f for f in own if f not in failing]:
        ElementTree.SubElement(case, "system-out").text = _block(others)
    return case


def _block(findings: list[Finding]) -> str:
    lines = []
    for finding in findings:
        lines.append(f"{finding.place}: {finding.severity.value}: {finding.message} [{finding.rule}]")
        lines += [finding.excerpt] if finding.excerpt else []
        lines += [f"  next: {finding.hint}"] if finding.hint else []
    return _xml("\n".join(lines))


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))  # as every reader of XML takes them
