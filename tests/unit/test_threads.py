"""Documents that several threads read at once: their types are known before the first of them is read."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("lockstep.storage.manifest", "Manifest"),
        ("lockstep.storage.contents", "Contents"),
        ("lockstep.storage.verification", "Verification"),
        ("lockstep.storage.rehearsals", "Rehearsal"),
        ("lockstep.storage.incidents", "Incident"),
        ("lockstep.core.fingerprint_document", "Print"),
    ],
)
def test_no_thread_is_the_first_to_read_a_document_of_its_type(module: str, name: str) -> None:
    """msgspec 0.22 ends the process when two threads meet a type for the first time at once (seven of twelve tries)."""
    code = f"import {module} as m; raise SystemExit(not hasattr(m.{name}, '__msgspec_cache__'))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
