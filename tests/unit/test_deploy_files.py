"""The recipes in deploy/: what systemd, Prefect and pip say to them, without starting anything."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

from tests.summary import NOT_RUN

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def test_systemd_takes_every_line_of_the_units(tmp_path: Path) -> None:
    assert len(UNITS) == 2
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        NOT_RUN.append(
            "the units of deploy/systemd were not verified: systemd-analyze is not installed: apt-get install systemd"
        )
        return
    for unit in UNITS:  # it wants to see the programs
        text = unit.read_text().replace("/opt/lockstep/venv/bin/", f"{Path(sys.executable).parent}/")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["server.env", "worker.env"])
def test_prefect_knows_every_setting_of_the_env_files(name: str) -> None:
    """A name that it does not know is ignored without a word: authentication would be off."""
    named = set(re.findall(r"^#? ?(PREFECT_\w+)=", (DEPLOY / "env" / name).read_text(), re.MULTILINE))
    assert named and named <= known_to_prefect()


@cache
def known_to_prefect() -> set[str]:
    code = (
        "import sys\nfrom prefect.settings.legacy import _get_settings_fields\nfrom prefect.settings.models.root import Settings\n"
        "print(*_get_settings_fields(Settings))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    read_from_the_environment = {"PREFECT_SERVER_ENCRYPTION_KEY"}
    return {word.upper() for word in done.stdout.split()} | read_from_the_environment


def test_what_a_machine_in_service_installs_is_what_was_tested() -> None:
    tested, installed = (
        set(re.findall(r"^([\w.-]+==[^\s;]+)", file.read_text(), re.MULTILINE))
        for file in (ROOT / "requirements.lock", DEPLOY / "requirements.lock")
    )
    assert installed <= tested, "make lock"
    assert "prefect" in {one.split("==")[0] for one in installed}


def test_the_workers_parent_lets_a_run_end_before_it_ends_the_worker(tmp_path: Path) -> None:
    """What a container starts: told to end while a run is under way, it waits for that, and then ends the worker."""
    module = tmp_path / "prefect"
    module.mkdir()
    (module / "__init__.py").touch()
    (module / "engine.py").write_text("import time\ntime.sleep(2)\nprint('run ended', flush=True)\n")
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('worker ended', flush=True), sys.exit(0)))\n"
        "subprocess.Popen([sys.executable, '-m', 'prefect.engine'])\n"
        "print('started', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(DEPLOY / "drain.py"), "--", sys.executable, str(worker)],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    lines = [line for line in said.splitlines() if not line.startswith("drain:")]
    assert (process.returncode, lines) == (0, ["run ended", "worker ended"])
