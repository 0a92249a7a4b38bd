"""The manifest's document: what is written is read back, and what is not a manifest is refused."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.core.contents import Contents, Extension, Outside, SchemaSize, Server
from lockstep.storage.manifest import FORMAT, DataArchive, LedgerHead, Manifest, decode, encode

SAMPLE = Manifest(
    key="team/prod/20260312T101500Z-run-1/database.dump",
    size=12345,
    sha256="ab" * 32,
    compression="zstd:1",
    environment="prod",
    database="app",
    server_version="17.10",
    client_version="17.10",
    system_identifier="7412345678901234567",
    taken_at=datetime(2026, 3, 12, 10, 15, 0, 123456, tzinfo=UTC),
    duration_ms=4200,
    schemas=("app", "public"),
    ledger=LedgerHead(version=4, entries=5, audit_head="cd" * 32, audit_length=9),
    run_id="run-1",
    tool_version="0.1.0",
)


def changed(**values: Any) -> bytes:
    """The sample as an earlier Lockstep wrote it, without the digest of itself."""
    document = {**json.loads(encode(SAMPLE)), **values}
    del document["document_sha256"]
    return json.dumps(document).encode()


def test_a_manifest_survives_the_round_trip() -> None:
    assert decode(encode(SAMPLE)) == SAMPLE


@given(
    st.lists(st.text(min_size=1)),
    st.datetimes(timezones=st.just(UTC)),
    st.none() | st.integers(min_value=0, max_value=2**62),
)
def test_any_names_and_times_survive_the_round_trip(schemas: list[str], at: datetime, version: int | None) -> None:
    manifest = replace(
        SAMPLE,
        schemas=tuple(schemas),
        taken_at=at,
        ledger=LedgerHead(version=version, entries=0),
        database="".join(schemas) or "d",
    )
    assert decode(encode(manifest)) == manifest


def test_the_id_is_the_folder() -> None:
    assert SAMPLE.id == "20260312T101500Z-run-1"


def test_the_document_is_for_people_too() -> None:
    text = encode(SAMPLE).decode()
    assert text.startswith('{\n  "format": 1,\n  "key": ')
    assert text.endswith("}\n")
    assert '"taken_at": "2026-03-12T10:15:00.123456Z"' in text


def test_unknown_fields_of_the_same_format_are_passed_over() -> None:
    assert decode(changed(verified_at="2027-01-01T00:00:00Z")) == SAMPLE


def test_a_later_format_is_refused_by_its_number() -> None:
    with pytest.raises(ValueError, match="format 2 is not known"):
        decode(changed(format=FORMAT + 1))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"format": 1}',
        b"\xff\xfe",
        encode(SAMPLE)[:-10],
        changed(size=0),
        changed(size=-1),
        changed(size="12345"),
        changed(sha256="ab"),
        changed(sha256="XY" * 32),
        changed(taken_at="2026-03-12T10:15:00"),
        changed(attempt=0),
        changed(run_id=""),
        changed(schemas=None),
        changed(ledger={"version": 1}),
        changed(key="database.dump"),
    ],
)
def test_a_document_that_is_no_manifest_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match="not a manifest"):
        decode(document)


def test_any_flipped_bit_or_missing_end_is_found() -> None:
    whole = encode(replace(SAMPLE, contents_key="team/prod/x/contents.json", contents_sha256="ef" * 32))
    assert decode(whole)
    damaged = [whole[:size] for size in range(len(whole))]
    for bit in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for document in damaged:
        with pytest.raises(ValueError):  # also of the format's number
            decode(document)


def test_the_digest_is_what_anybody_can_compute(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(encode(SAMPLE))
    words = "head -n -2 manifest.json | sha256sum"
    said = subprocess.run(words, shell=True, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert said.split()[0] == json.loads(encode(SAMPLE))["document_sha256"]


def test_a_time_in_another_zone_is_the_same_moment() -> None:
    zone = timezone(timedelta(hours=2))
    assert decode(changed(taken_at=SAMPLE.taken_at.astimezone(zone).isoformat())) == SAMPLE


KINDS = (Manifest, LedgerHead, DataArchive, SchemaSize, Extension, Contents, Server, Outside)


def test_the_reference_page_lists_exactly_the_fields() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "backup-format.md"
    listed = re.findall(r"^\| `(\w+)` \|", page.read_text(), re.MULTILINE)
    assert listed == [field.name for kind in KINDS for field in fields(kind)]
    assert "`document_sha256`" in page.read_text()


def test_no_field_could_hold_a_secret() -> None:
    names = {field.name for field in fields(Manifest)}
    assert not {name for name in names for word in ("url", "conninfo", "password", "user", "host") if word in name}
