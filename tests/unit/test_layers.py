"""What is imported when: the core does no input or output, and a status does not pay for what it does not use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lockstep.core


def _loaded(code: str) -> set[str]:
    return {name.split(".")[0] for name in _modules(code)}


def _modules(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('\\n'.join(sys.modules))"],
        check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    return set(done.stdout.splitlines())


def test_the_core_loads_no_database_network_or_orchestrator() -> None:
    core = Path(lockstep.core.__file__).parent
    names = sorted(".".join(f.relative_to(core).with_suffix("").parts) for f in core.rglob("*.py"))
    names = [name for name in names if not name.endswith("__init__")]
    names.remove("grammar")  # the one module that is the parser, and is imported late
    loaded = _loaded("import " + ", ".join(f"lockstep.core.{name}" for name in names))
    assert not loaded & {"psycopg", "boto3", "botocore", "prefect", "postgast", "socket", "subprocess"}


def test_status_loads_neither_prefect_nor_boto3_nor_the_parser(tmp_path: Path) -> None:
    (tmp_path / "lockstep.toml").write_text('[environments.dev]\nurl = "postgresql://u@127.0.0.1:1/d"\n')
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "001-a.sql").write_text("SELECT 1;")
    code = f"from lockstep.cli.main import main; code = main(['status', '--project', {str(tmp_path)!r}]); assert code == 8, code"
    loaded = _loaded(code)
    assert "psycopg" in loaded
    assert not loaded & {
        "prefect",
        "boto3",
        "botocore",
        "pyrage",
        "postgast",
        "pydantic",
        "fastapi",
        "jinja2",
        "matplotlib",
    }


def test_a_status_and_a_sync_with_nothing_to_do_load_no_module_of_ours_that_knows_sql_or_storage() -> None:
    modules = _modules(
        "import lockstep.cli.status, lockstep.service.status, lockstep.cli.sync, lockstep.service.syncing"
    )
    core = {"statements", "units", "traits", "locks", "known", "nodes", "lock_report", "resuming", "rechecking"}
    late = {f"lockstep.core.{name}" for name in core} | {"lockstep.service.piecewise", "lockstep.service.verifying"}
    assert not modules & late
    assert not [name for name in modules if name.startswith("lockstep.storage")]


def test_a_history_loads_nothing_of_the_store_before_it_verifies() -> None:
    modules = _modules("import lockstep.cli.history, lockstep.cli.history_stats, lockstep.service.history")
    late = {"lockstep.service.heads", "lockstep.service.auditpruning", "lockstep.postgres.auditprune"}
    assert "lockstep.service.history" in modules and not modules & late
    assert not [name for name in modules if name.startswith("lockstep.storage")]


def test_help_loads_nothing_but_the_standard_library() -> None:
    loaded = _loaded(
        "import io, contextlib\nfrom lockstep.cli.main import main\nwith contextlib.redirect_stdout(io.StringIO()): main(['--help'])"
    )
    assert not loaded & {"prefect", "boto3", "psycopg", "postgast", "msgspec", "jinja2", "matplotlib"}


def test_storage_loads_neither_boto3_nor_age_before_they_are_used() -> None:
    loaded = _loaded("import lockstep.service.store, lockstep.service.backup, lockstep.service.pruning")
    assert not loaded & {"boto3", "botocore", "pyrage"}
