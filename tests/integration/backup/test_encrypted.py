"""Encrypted backups: what is stored cannot be read without the secret key, and with it restores to the same."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pyrage
import pytest
from pyrage import x25519

from lockstep.errors import BackupFailed, ConfigError
from lockstep.service.backup import BackupProgress, BackupReport, back_up
from lockstep.service.store import identity, recipients
from lockstep.storage.archive import archives_of, read_archive
from lockstep.storage.bucket import Bucket
from lockstep.storage.encryption import Identity
from tests.integration.backup.store import Store, assert_no_pg_dump, pg_dump_pid
from tests.project import Project


@pytest.fixture
def key() -> x25519.Identity:
    return x25519.Identity.generate()


def take(url: str, store: Store, key: x25519.Identity, **options: Any) -> BackupReport:
    return back_up(
        target="prod (test)", environment="prod", conninfo=url, bucket=store.settings, run_id="run-1",
        encrypt_to=(str(key.to_public()),), **options,
    )  # fmt: skip


def test_an_encrypted_backup_is_an_age_file_of_a_whole_archive(
    large_database: str, store: Store, key: x25519.Identity, pg_bin: Path, tmp_path: Path
) -> None:
    manifest = take(large_database, store, key).manifest
    stored = store.read(manifest.key)
    plain = pyrage.decrypt(stored, [key])
    assert stored.startswith(b"age-encryption.org/v1\n") and b"PGDMP" not in stored[:4096]
    assert (manifest.size, manifest.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
    assert manifest.plain_sha256 == hashlib.sha256(plain).hexdigest()
    assert manifest.encrypted_to == (str(key.to_public()),)
    file = tmp_path / "archive"
    with file.open("wb") as opened, Bucket(store.settings) as bucket:
        (archive,) = archives_of(manifest)
        read_archive(bucket, archive, opened.write, identity=Identity([key]))
    assert file.read_bytes() == plain
    subprocess.run([pg_bin / "pg_restore", "-f", "/dev/null", file], check=True)


@pytest.mark.parametrize("how", ["killed", "interrupted", "broken"])
def test_an_encrypted_backup_that_ends_early_leaves_nothing(
    large_database: str, store: Store, key: x25519.Identity, how: str
) -> None:
    def once(progress: BackupProgress) -> None:
        if how == "killed":
            os.kill(pg_dump_pid(), signal.SIGKILL)
        elif how == "interrupted":
            signal.raise_signal(signal.SIGINT)
        else:
            raise ZeroDivisionError

    wanted = {"killed": BackupFailed, "interrupted": KeyboardInterrupt, "broken": ZeroDivisionError}[how]
    with pytest.raises(wanted):
        take(large_database, store, key, progress=once)
    store.assert_empty()
    assert_no_pg_dump()


# -- the settings -----------------------------------------------------------------------------------------------------


@pytest.fixture
def protected(project: Project, key: x25519.Identity) -> Project:
    """dev is protected; backups are encrypted to `key`; AGE_IDENTITY_FILE names no file yet."""
    project.toml = (
        f'[backup]\nbucket = "s3://nowhere"\nencrypt_to = ["{key.to_public()}"]\n'
        '[rehearsal]\nidentity = "${AGE_IDENTITY_FILE}"\n'
    )
    project.configure(dev="protected = true")
    project.write("001-a.sql", "SELECT 1;")
    project.run("init")
    return project


def test_plan_says_before_the_backup_that_this_machine_could_not_decrypt_it(
    protected: Project, key: x25519.Identity, tmp_path: Path
) -> None:
    says = "note: backups are encrypted, and this machine could neither restore nor rehearse one:"
    done = protected.run("plan")
    assert done.code == 0  # a machine that cannot decrypt is a good set-up
    assert f"{says} lockstep.toml:5: rehearsal.identity needs the variable AGE_IDENTITY_FILE" in done.out
    (environment,) = protected.run("plan", "--json").document["environments"]
    assert says[6:] in {notice["kind"]: notice["message"] for notice in environment["notices"]}["backup"]

    protected.variables["AGE_IDENTITY_FILE"] = str(tmp_path / "keys.txt")
    assert f"{says} lockstep.toml:5: the file of the age identity cannot be read" in protected.run("plan").out
    other = x25519.Identity.generate()
    (tmp_path / "keys.txt").write_text(str(other))
    assert f"those of {other.to_public()}" in protected.run("plan").out
    (tmp_path / "keys.txt").write_text(f"{other}\n{key}\n")
    done = protected.run("plan")
    assert "note: backups" not in done.out
    assert str(key) not in done.out + done.err


def test_a_bad_public_key_is_found_by_plan(protected: Project) -> None:
    protected.toml = protected.toml.replace('encrypt_to = ["', 'encrypt_to = ["age1nonsense", "')
    protected.configure(dev="protected = true")
    done = protected.run("plan")
    assert done.code == 2
    assert "lockstep.toml:3: encrypt_to: key 1 is not an age public key" in done.err


def test_keys_may_come_from_variables_and_files_from_the_project_folder(
    protected: Project, key: x25519.Identity
) -> None:
    protected.toml = protected.toml.replace(str(key.to_public()), "${BACKUP_KEY}").replace("${AGE_IDENTITY_FILE}", "k")
    protected.configure()
    protected.variables["BACKUP_KEY"] = str(key.to_public())
    (protected.folder / "k").write_text(str(key))
    assert recipients(protected.settings()) == (str(key.to_public()),)
    found = identity(protected.settings())
    assert found is not None and found.public == (str(key.to_public()),)
    (protected.folder / "k").unlink()
    with pytest.raises(ConfigError, match=r"lockstep.toml:5: .*No such file"):
        identity(protected.settings())
