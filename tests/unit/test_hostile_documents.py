"""Hostile configuration and documents: each ends in a value or an error with its place, in bounded time and memory.

LOCKSTEP_FUZZ multiplies how much is tried (`make fuzz`).
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockstep.cli.terminal import harmless
from lockstep.config import load_settings
from lockstep.core import fingerprint_document, markdown
from lockstep.core.address import parse_address
from lockstep.core.contents import Contents, DatabaseShape
from lockstep.core.csvtext import cell
from lockstep.core.rehearsal.stored import stored_proof
from lockstep.core.text import printable
from lockstep.errors import ConfigError, LockstepError
from lockstep.postgres.entries import entry_progress
from lockstep.service.project import target_of
from lockstep.storage import contents, manifest, rehearsals, verification
from lockstep.storage.backups import _belonging
from lockstep.storage.manifest import DataArchive, Manifest
from lockstep.storage.verification import Level, Verification
from tests.unit.test_manifest import SAMPLE

FUZZ = int(os.environ.get("LOCKSTEP_FUZZ", "1"))
many = settings(max_examples=50 * FUZZ, suppress_health_check=[HealthCheck.function_scoped_fixture])

VERIFIED = Verification(
    level=Level.ARCHIVE, ok=True, at=datetime(2026, 3, 1, tzinfo=UTC), duration_ms=5, run_id="x", tool_version="1"
)
SHAPE = DatabaseShape(
    owner="o", encoding="UTF8", locale_provider="c", collate="C", ctype="C", locale=None, icu_rules=None, connection_limit=-1,
    comment=None, acl=None, tablespace="pg_default", oid=5,
)  # fmt: skip
CONTENTS = Contents(database=SHAPE, tables=(), sequences=(), large_objects=0)

#: kind -> (what reads it, one that is right)
DOCUMENTS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "manifest": (manifest.decode, manifest.encode(SAMPLE)),
    "verification": (verification.decode, verification.encode(VERIFIED)),
    "contents": (contents.decode, contents.encode(CONTENTS)),
    "rehearsal": (rehearsals.decode, b'{"format": 1}'),
    "state": (lambda raw: fingerprint_document.decode_fingerprint(zlib.compress(raw)), b'{"format":1,"major":17,"schemas":[],"roles":[],"objects":[]}'),
    "changes": (lambda raw: fingerprint_document.decode_touched(zlib.compress(raw)), b'{"format":1,"changes":[]}'),
}  # fmt: skip

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=12), st.just("9" * 5000)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=5,
)  # fmt: skip


@pytest.mark.parametrize("kind", DOCUMENTS)
@many
@given(data=st.data())
def test_any_document_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    read, right = DOCUMENTS[kind]
    document: Any = json.loads(right)
    if data.draw(st.booleans()):
        raw = data.draw(st.binary(max_size=60))
    else:
        name = data.draw(st.sampled_from(sorted(document)))
        raw = json.dumps({**document, name: data.draw(values)}).encode()
    try:
        read(raw)
    except ValueError:
        return


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize(
    "value",
    [
        b"[" * 500_000,
        b"[" * 500_000 + b"]" * 500_000,
        b'{"a":' * 500_000,
        b"9" * 100_000,
        b"1e999999999",
        b'"\\ud800"',
        b'"\xff"',
    ],
    ids=["deep", "deep and whole", "deep objects", "many digits", "huge", "half a character", "not UTF-8"],
)
def test_a_document_that_is_a_trap_is_refused(kind: str, value: bytes) -> None:
    read, _ = DOCUMENTS[kind]
    for raw in (value, b'{"zz": %s, "format": 1}' % value, b'{"format": %s}' % value):
        with pytest.raises(ValueError):
            read(raw)


def test_a_state_that_unpacks_to_more_than_any_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint_document, "LARGEST", 1024)
    with pytest.raises(ValueError, match="cut short, or larger"):
        fingerprint_document.decode_fingerprint(zlib.compress(b" " * 100_000_000))
    with pytest.raises(ValueError, match="cannot be read"):
        fingerprint_document.decode_touched(zlib.compress(b'{"format":1,"changes":[]}')[:-3])


@many
@given(
    st.dictionaries(
        st.sampled_from(
            ["standing", "down_checksum", "backup", "at", "ms", "text", "losses", "drops", "units", "target", "batches"]
        ),
        values,
    )
)
def test_a_column_of_the_ledger_that_others_wrote_is_a_value_or_nothing(document: dict[str, Any]) -> None:
    found = stored_proof({"standing": "proven", "down_checksum": None, "backup": "x", "at": "2026-01-01", **document})
    assert found is None or (
        isinstance(found.text, str) and found.at.tzinfo is not None and isinstance(found.ms, float | None)
    )
    progress = entry_progress(document)
    assert progress is not None and isinstance(progress.units, int) and isinstance(progress.target, str)


# -- manifests that point elsewhere --------------------------------------------------------------------------------------

KEY = SAMPLE.key.rpartition("/")[0] + "/manifest.json"
ELSEWHERE = (
    "other/20260101T000000Z-x/database.dump", f"{SAMPLE.key}/../../../x", "/etc/passwd", "http://evil.example/dump", "..", "",
    f"{SAMPLE.key.rpartition('/')[0]}/../x/database.dump", "s3://other/database.dump", f"{SAMPLE.key.rpartition('/')[0]}/",
    f"{SAMPLE.key.rpartition('/')[0]}/a\\b", f"{SAMPLE.key.rpartition('/')[0]}/a\x00", f"{SAMPLE.key.rpartition('/')[0]}/..",
    SAMPLE.key.replace("prod", "dev"),
)  # fmt: skip


@pytest.mark.parametrize("key", ELSEWHERE)
def test_a_manifest_that_names_an_object_outside_of_its_folder_is_refused(key: str) -> None:
    assert _belonging(SAMPLE, KEY) is SAMPLE
    archive = DataArchive(key=key, size=1, sha256="ab" * 32)
    for hostile in (replace(SAMPLE, data=(archive,)), replace(SAMPLE, contents_key=key), replace(SAMPLE, key=key)):
        with pytest.raises((ValueError, IndexError)):
            _belonging(hostile, KEY)


def test_a_manifest_may_name_what_lies_beside_it() -> None:
    folder = SAMPLE.key.rpartition("/")[0]
    archive = DataArchive(key=f"{folder}/data-1.dump", size=1, sha256="ab" * 32)
    whole: Manifest = replace(SAMPLE, data=(archive,), contents_key=f"{folder}/contents.json")
    assert _belonging(whole, KEY) is whole


# -- configuration -------------------------------------------------------------------------------------------------------

TRAPS = {
    "deep lists": "a = " + "[" * 100_000,
    "deep tables": "a = " + "{a=" * 5_000 + "1" + "}" * 5_000,
    "a key of many parts": "a" + ".a" * 100_000 + " = 1",
    "many digits": "[backup]\nbucket = 's3://abc'\njobs = " + "9" * 5_000,
    "more than a configuration": "# x\n" * 400_000,
    "a duration without end": "[environments.dev]\nlock_timeout = '" + "9" * 400 + "d'",
    "a date that is none": "a = 2026-13-45",
    "a NUL": "a = '\0'",
    "a name of a megabyte": "[" + "a" * 900_000 + "]",
    "dots in a text": "[project]\nrunbook = 1\ncontacts = ['" + "a." * 60 + "']",
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_configuration_that_is_a_trap_is_an_error_with_its_place(trap: str, tmp_path: Path) -> None:
    (tmp_path / "lockstep.toml").write_text(TRAPS[trap])
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path, {})
    assert "lockstep.toml" in caught.value.message and len(caught.value.message) < 2_000


LINES_OF_TOML = (
    "[environments.dev]", "[environments.prod]", 'url = "${X}"', 'url = "postgresql://u:p@h/d"', 'after = ["dev"]', "protected = true",
    "[backup]", 'bucket = "s3://abc"', 'bucket = "s3://../../x"', "jobs = -1", "[project]", 'migrations = "../../.."', 'migrations = "a\\u0000b"',
    'ledger_schema = "x\\u001b[2J"', "[drift]", "ignore = [{}]", "[[drift.ignore]]", 'reason = "x"', "[health]", "key_used = [1]", "[", "]]",
    '"a.b" = 1', "x = {", 'settings = { a = "b" }', "[rehearsal]", 'server = "mysql://x"', "max_blocking = 5", '[environments."a\\nb"]', "=",
)  # fmt: skip


@many
@given(
    st.one_of(st.text(max_size=80), st.lists(st.sampled_from(LINES_OF_TOML), max_size=8).map("\n".join)),
    st.one_of(st.text(max_size=60), st.lists(st.sampled_from(["X=1", "X='", 'Y="a', "=", "export X=2", "\x1b=3", "X=${X}", "#"]), max_size=5).map("\n".join)),
)  # fmt: skip
def test_any_configuration_is_read_or_an_error_with_its_place(tmp_path: Path, toml: str, env: str) -> None:
    (tmp_path / "lockstep.toml").write_bytes(toml.encode("utf-8", "surrogatepass"))
    (tmp_path / ".env").write_bytes(env.encode("utf-8", "surrogatepass"))
    try:
        loaded = load_settings(tmp_path, {})
        loaded.values()
        for environment in loaded.environments.values():
            target_of(loaded, environment)
    except LockstepError as error:
        assert any(place in error.message for place in ("lockstep.toml", ".env", "environments.", str(tmp_path)))


@many
@given(st.one_of(st.text(max_size=60), st.text(alphabet="postgresql://@:[]%?&=',\\ ab0.", max_size=60)))
def test_any_address_is_read_or_refused_without_repeating_it(text: str) -> None:
    try:
        parse_address(text)
    except ValueError as error:
        assert len(text) < 12 or text not in str(error)


# -- what others wrote, shown --------------------------------------------------------------------------------------------


@many
@given(st.text(max_size=120))
def test_nothing_steers_a_terminal_and_our_own_colours_stay(text: str) -> None:
    shown = harmless(f"\033[31m{text}\033[0m\n")
    assert shown.startswith("\033[31m") and shown.endswith("\033[0m\n")
    inside = shown.removeprefix("\033[31m").removesuffix("\033[0m\n")
    assert not [
        char
        for char in inside
        if (char < " " and char not in "\n\t") or "\x7f" <= char <= "\x9f" or char in "\u202e\u2066\u200b\u2028\ufeff"
    ]
    assert harmless(printable(text)) == printable(text)
    shown.encode()


@many
@given(st.text(max_size=60))
def test_a_text_in_markdown_and_in_a_cell_has_no_markup(text: str) -> None:
    for made in (markdown.text(text), markdown.code(text)):
        assert "\n" not in made and "\x1b" not in made
    plain = markdown.text(text)
    for sign in "<>[]|`*_":
        assert plain.count(sign) == plain.count(f"\\{sign}"), plain
    assert not cell(text).lstrip().startswith(("=", "+", "-", "@"))
