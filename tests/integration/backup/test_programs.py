"""The client program is the server's own major and the newest minor at hand, or there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lockstep.errors import ProgramMissing
from lockstep.postgres.dump import compression_of
from lockstep.postgres.programs import find_program

SERVER = 170004  # an older minor than any that we find


def stand_in(folder: Path, version: str, *, name: str = "pg_dump") -> Path:
    """A program that can only say which version it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def only_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that is the first of PATH."""
    folder = tmp_path / "first"
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_the_embedded_program_serves_where_nothing_newer_is_installed(pg_bin: Path, only_path: Path) -> None:
    stand_in(only_path, "17.1 (Debian 17.1-1)")
    found = find_program("pg_dump", SERVER)
    assert (found.major, found.minor >= 10) == (17, True)
    assert find_program("pg_restore", SERVER).path.name == "pg_restore"


def test_the_newest_minor_wins_and_of_equals_the_installed(pg_bin: Path, only_path: Path) -> None:
    newer = stand_in(only_path, "17.99")
    found = find_program("pg_dump", SERVER)
    assert (found.path, found.version, found.minor) == (newer, "17.99", 99)
    embedded = find_program("pg_dump", SERVER, folder=pg_bin)
    equal = stand_in(only_path, f"{embedded.version} (installed, and as new)")
    assert find_program("pg_dump", SERVER).path == equal


@pytest.mark.parametrize("version", ["18.4", "16.99", "19devel", "nonsense"])
def test_another_major_is_never_taken(tmp_path: Path, version: str) -> None:
    stand_in(tmp_path, version)
    with pytest.raises(ProgramMissing) as caught:
        find_program("pg_dump", SERVER, folder=tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "postgresql-client-17" in (caught.value.hint or "")


def test_a_beta_is_of_its_major(tmp_path: Path) -> None:
    stand_in(tmp_path, "19beta2")
    found = find_program("pg_dump", 190000, folder=tmp_path)
    assert (found.major, found.minor, found.version) == (19, 0, "19")


def test_an_explicit_folder_is_the_only_place_looked_in(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing):
        find_program("pg_dump", SERVER, folder=tmp_path)
    for place in (tmp_path / "17" / "bin", tmp_path / "bin", tmp_path):
        expected = stand_in(place, "17.1")
        assert find_program("pg_dump", SERVER, folder=tmp_path).path == expected
        expected.unlink()


def test_debians_wrapper_is_passed_over(only_path: Path) -> None:
    # It picks a version by the host asked for, so what it says of itself does not hold for the call that counts.
    wrapper = stand_in(only_path / "share", "17.99", name="pg_wrapper")
    (only_path / "pg_dump").symlink_to(wrapper)
    assert find_program("pg_dump", SERVER).version != "17.99"


def test_a_program_that_does_not_run_is_passed_over(only_path: Path, tmp_path: Path) -> None:
    broken = stand_in(only_path, "17.99")
    broken.write_text("#!/nonexistent/interpreter\n")
    assert find_program("pg_dump", SERVER).version != "17.99"
    broken.write_text("#!/bin/sh\nexit 1\n# longer\n")
    assert find_program("pg_dump", SERVER).version != "17.99"


def test_a_replaced_program_is_asked_again(tmp_path: Path) -> None:
    stand_in(tmp_path, "17.5")
    assert find_program("pg_dump", SERVER, folder=tmp_path).minor == 5
    stand_in(tmp_path, "17.11")
    assert find_program("pg_dump", SERVER, folder=tmp_path).minor == 11


def test_the_compression_is_what_the_program_has(pg_bin: Path) -> None:
    assert compression_of(pg_bin / "pg_dump", 17) == "zstd:1"
    assert compression_of(pg_bin / "pg_dump", 15) == "gzip:1"  # -Z NAME came with 16; not even asked
