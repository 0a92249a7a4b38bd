"""The wheel, alone: what is in it, and a team's own project made and run from it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

ROOT = Path(__file__).resolve().parents[2]
EPOCH = "1767225600"  # seconds since 1970, of every file in the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as `make wheel` builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH})
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files in a folder of their own; the dependencies come from this environment."""
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(folder),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_the_wheel_brings_one_top_level_package(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert names == {"lockstep", next(n for n in names if n.endswith(".dist-info"))}
    files = set(zipfile.ZipFile(wheel).namelist())
    assert {"lockstep/py.typed", "lockstep/postgres/sql/create_ledger.sql", "lockstep/project/flows/deploy.py"} <= files
    assert not [name for name in files if "__pycache__" in name]


#: What the wheel is made of; anything else in it came there by accident.
KINDS = {".py", ".sql", ".md", ".toml", ".yaml", ".yml", ".jinja", ".css", ".png", ".service", ".env", ".lock", ".example", ".sh", ".typed", ".j2", ".timer", ".conf", ".template", ""}  # fmt: skip


def test_nothing_is_in_the_wheel_that_does_not_belong_there(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        odd = [name for name in names if Path(name).suffix not in KINDS and ".dist-info/" not in name]
        assert odd == []
        assert not [name for name in names if name.startswith("/") or ".." in name or "\\" in name]
        assert not [name for name in names if Path(name).name in {".env", ".git", ".DS_Store"} or "/tests/" in name]
        here = str(ROOT).encode()
        assert not [name for name in names if here in archive.read(name)]
        assert all(info.external_attr >> 16 & 0o170000 in (0, 0o100000) for info in archive.infolist()), "no links"


def test_the_wheel_is_the_same_to_the_byte_wherever_and_whenever_it_is_built(wheel: Path, tmp_path: Path) -> None:
    copy = tmp_path / "somewhere" / "else"
    for name in ("src", "docs", "flows", "tasks", "deploy", "migrations"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "prefect.yaml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    for path in copy.rglob("*"):
        os.utime(path, (10**9, 10**9))
        path.chmod(0o700 if path.is_dir() or path.stat().st_mode & 0o100 else 0o600)
    environ = {**os.environ, "TZ": "Pacific/Auckland", "LC_ALL": "C", "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": EPOCH}
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(copy)]
    subprocess.run(command, check=True, capture_output=True, env=environ, umask=0o077)
    (again,) = tmp_path.glob("*.whl")
    assert hashlib.sha256(again.read_bytes()).hexdigest() == hashlib.sha256(wheel.read_bytes()).hexdigest()


class Lockstep(Protocol):
    def __call__(self, *words: str, cwd: Path, code: int = 0) -> str: ...


@pytest.fixture
def lockstep(installed: Path, tmp_path: Path) -> Lockstep:
    """The wheel's command line, and nothing of this checkout or of the machine's own Prefect."""
    environ = {
        k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"} and not k.startswith("PREFECT_")
    }
    environ |= {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1", "NO_COLOR": "1"}
    environ |= {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_PROFILES_PATH": str(tmp_path / "profiles.toml")}

    def call(*words: str, cwd: Path, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "lockstep", *words],
            cwd=cwd,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    where = subprocess.run(
        [sys.executable, "-c", "import lockstep; print(lockstep.__file__)"],
        env=environ, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(installed)), "the wheel's package is what runs"
    return call


def begun(lockstep: Lockstep, folder: Path, dev: str, prod: str) -> Path:
    """A project that the wheel made, with its ledgers and one migration that nobody has applied."""
    lockstep("new-project", "shop", cwd=folder)
    shop = folder / "shop"
    example = (shop / ".env.example").read_text()
    text = example.replace("postgresql://USER:PASSWORD@HOST:5432/DATABASE", dev, 1)
    (shop / ".env").write_text(text.replace("postgresql://USER:PASSWORD@HOST:5432/DATABASE", prod, 1))
    lockstep("init", cwd=shop)
    up = shop / lockstep("new", "first table", cwd=shop).splitlines()[0]
    up.write_text("CREATE TABLE first (id bigint PRIMARY KEY);\n")
    return shop


def test_a_team_starts_its_own_project_from_the_wheel(
    lockstep: Lockstep, tmp_path: Path, new_database: Callable[[], str]
) -> None:
    shop = begun(lockstep, tmp_path, new_database(), new_database())
    made = {str(f.relative_to(shop)) for f in shop.rglob("*") if f.is_file()}
    assert {
        "lockstep.toml", ".env.example", ".gitignore", "prefect.yaml", "docs/guide.md",
        "flows/deploy.py", "flows/status.py", "tasks/__init__.py",
    } <= made  # fmt: skip
    assert not [name for name in made if name.endswith(".sql") and "first" not in name], "no example without asking"
    lockstep("new-project", "shop", cwd=tmp_path, code=2)
    assert "pending" in lockstep("status", cwd=shop)
    lockstep("validate", cwd=shop)
    lockstep("sync", "dev", cwd=shop)
    assert "dev (127.0.0.1:" in lockstep("status", cwd=shop / "migrations")
    lockstep("new-project", "example", "--with-example-schema", cwd=tmp_path)
    assert (tmp_path / "example" / "migrations" / "004-referral-system.sql").exists()
    assert lockstep("validate", "--strict", cwd=tmp_path / "example").endswith("0 errors, 0 warnings\n")


@pytest.mark.slow  # the tutorial deploys a project of the wheel's each time, with a server; here there is none
def test_a_project_of_the_wheel_deploys_through_its_own_flows(
    lockstep: Lockstep, tmp_path: Path, new_database: Callable[[], str]
) -> None:
    shop = begun(lockstep, tmp_path, new_database(), new_database())
    assert "1 applied (dev)" in lockstep("deploy", "dev", cwd=shop)
