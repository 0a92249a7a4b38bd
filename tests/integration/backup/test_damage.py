"""Random damage to what is stored of a backup: `backups verify` finds every one, and says which object it is.

`make soak-backups` runs the long form: LOCKSTEP_DAMAGES of them. LOCKSTEP_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyrage import x25519

from lockstep.service import backup as backup_module
from tests.integration.backup.store import Store
from tests.integration.backup.test_backup import EVERYTHING, execute
from tests.project import Project
from tests.summary import LINES

DAMAGES = int(os.environ.get("LOCKSTEP_DAMAGES", "6"))
LEVELS = ("digests", "digests", "archive", *(("restored",) if DAMAGES > 20 else ()))  # the strongest takes seconds


@dataclass(frozen=True)
class Damage:
    """What happened to one object."""

    key: str
    text: str  # in words
    body: bytes


def random_damage(store: Store, chance: random.Random, keys: list[str]) -> Damage:
    """Flip one bit anywhere in one of the objects, or cut it off anywhere."""
    key = chance.choice(keys)
    body = store.read(key)
    if chance.random() < 0.5:
        bit = chance.randrange(len(body) * 8)
        flipped = bytearray(body)
        flipped[bit // 8] ^= 1 << bit % 8
        return Damage(key, f"bit {bit} of {len(body) * 8} flipped", bytes(flipped))
    size = chance.randrange(len(body))
    return Damage(key, f"cut to {size} of {len(body)} bytes", body[:size])


@contextmanager
def damaged(store: Store, damage: Damage) -> Iterator[None]:
    """Put the damage in place of the object, and the object back afterwards, without what was recorded meanwhile."""
    whole, before = store.read(damage.key), store.stored()
    store.client.put_object(Bucket=store.name, Key=damage.key, Body=damage.body)
    try:
        yield
    finally:
        store.client.put_object(Bucket=store.name, Key=damage.key, Body=whole)
        for key in store.stored():
            if key not in before:
                store.delete(key)


@pytest.fixture
def shop(project: Project, store: Store, pg_bin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with three backups of one database: early, of several archives, and encrypted."""
    monkeypatch.setattr(backup_module, "LARGE", 1)
    identity = x25519.Identity.generate()
    (tmp_path / "key.txt").write_text(f"{identity}\n")
    project.urls = {"prod": project.urls["dev"]}
    backup = (
        f'[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
        f'programs = "{pg_bin}"\n'
    )
    project.toml = f"{backup}jobs = 2\n"
    project.configure(prod="protected = true")
    project.write("001-plain.sql", "CREATE TABLE plain AS SELECT i, md5(i::text) AS t FROM generate_series(1, 3000) i;")
    assert project.run("init", "prod").code == 0
    assert project.run("sync", "prod").code == 0  # with a backup
    execute(project.urls["prod"], EVERYTHING)
    done = project.run("backup", "prod")
    assert done.code == 0, done.err
    project.toml = f'{backup}encrypt_to = ["{identity.to_public()}"]\n[rehearsal]\nidentity = "key.txt"\n'
    project.configure(prod="protected = true")
    done = project.run("backup", "prod")
    assert done.code == 0, done.err
    return project


@pytest.mark.slow
def test_every_random_damage_is_found(shop: Project, store: Store) -> None:
    seed = int(os.environ.get("LOCKSTEP_SEED", str(random.SystemRandom().randrange(10**6))))
    chance = random.Random(seed)
    keys = [key for key in store.stored() if "/verified-" not in key and "/rehearsal-" not in key]
    assert len(keys) >= 10, keys  # dump, contents and manifest of each; and the rows of one apart
    done = shop.run("backups", "verify", "--all", "--level", "archive")
    assert done.code == 0, done.err + done.out
    found = 0
    try:
        for _ in range(DAMAGES):
            damage, level = random_damage(store, chance, keys), chance.choice(LEVELS)
            with damaged(store, damage):
                done = shop.run("backups", "verify", "--all", "--level", level)
            said = f"{damage.key}: {damage.text}, level {level}, seed {seed}: {done.code}\n{done.out}{done.err}"
            assert done.code == 7, said
            assert damage.key.split("/")[-2] in done.out, said
            found += 1
    finally:
        LINES.append(f"backups verify: {found} of {DAMAGES} random damages found, seed {seed}")
    assert shop.run("backups", "verify", "--all", "--level", "archive").code == 0


def test_an_older_backup_does_not_stand_in_for_a_newest_one_that_is_damaged(shop: Project, store: Store) -> None:
    newest = max(key for key in store.stored() if key.endswith("/manifest.json"))
    with damaged(store, Damage(newest, "", store.read(newest)[:-5])):
        done = shop.run("backups", "verify", "--level", "digests")
    assert done.code == 7
    assert newest.split("/")[-2] in done.out
