"""The throw-away server leaves nothing behind, whatever ends the process that started it, and reaches nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from lockstep.errors import ProgramMissing
from lockstep.postgres.throwaway import ThrowawayServer, sweep


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A zombie that nobody has waited for is gone as well.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_server_and_data_are_gone_when_the_process_that_started_it_is_killed(
    pg_bin: Path, tmp_path: Path, how: signal.Signals
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lockstep.postgres.throwaway import ThrowawayServer\n"
        f"s = ThrowawayServer(Path({str(pg_bin)!r}), tcp=False)\n"
        "print(s.folder, s._sockets, s._process.pid, flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        folder, sockets, pid = process.stdout.readline().split()
        assert Path(folder, "data").is_dir() and not _gone(int(pid))
        process.send_signal(how)
    finally:
        process.kill() if process.poll() is None and how is not signal.SIGINT else None
        process.wait(20)
        process.stdout.close() if process.stdout else None
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (Path(folder).exists() or Path(sockets).exists() or not _gone(int(pid))):
        time.sleep(0.05)
    assert not Path(folder).exists() and not Path(sockets).exists() and _gone(int(pid))


def test_a_signal_to_the_whole_process_group_leaves_nothing(pg_bin: Path) -> None:
    server = ThrowawayServer(pg_bin, tcp=False)
    watchdog, folder = server._watchdog, server.folder
    assert watchdog is not None
    try:
        for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            watchdog.send_signal(ending)
        time.sleep(0.2)
        assert watchdog.poll() is None, "it waits for us"
        watchdog.kill()
        watchdog.wait(10)
    finally:
        server.stop()
    assert not folder.exists()


def test_it_is_made_for_a_major_and_reaches_no_network(pg_bin: Path) -> None:
    from lockstep.postgres.programs import find_program

    major = find_program("postgres", int(_major(pg_bin)) * 10000, folder=pg_bin).major
    with ThrowawayServer.of_major(major, programs=pg_bin) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            assert connection.info.server_version // 10000 == major
            reached = connection.execute("SHOW listen_addresses").fetchone()
            assert reached == ("",)
            if server.isolated:
                connection.execute("CREATE TABLE seen (line text)")
                connection.execute("COPY seen FROM PROGRAM 'cat /proc/net/dev'")
                names = [r[0].split(":")[0].strip() for r in connection.execute("SELECT line FROM seen OFFSET 2")]
                assert names == ["lo"]
        folder = server.folder
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's server is that user's")
def test_what_roots_server_writes_is_not_roots(pg_bin: Path) -> None:
    with tempfile.TemporaryDirectory() as name, ThrowawayServer(pg_bin, tcp=False) as server:
        folder = Path(name)
        folder.chmod(0o777)
        ours = folder / "ours"
        ours.touch(mode=0o600)
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(f"COPY (SELECT 1) TO '{folder}/written'".encode())
            connection.execute(f"COPY (SELECT 1) TO PROGRAM 'id -u > {folder}/id'".encode())
            with pytest.raises(psycopg.Error):
                connection.execute(f"COPY (SELECT 1) TO '{ours}'".encode())
        assert (folder / "written").stat().st_uid != 0
        assert (folder / "id").read_text().strip() != "0" and (folder / "id").stat().st_uid != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's server is that user's")
def test_root_runs_it_all_the_same_where_nobody_else_can_enter(pg_bin: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # mode 0700
        with (
            ThrowawayServer(pg_bin, folder=Path(name) / "server", tcp=False) as server,
            psycopg.connect(server.url()) as connection,
        ):
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert not list(Path(name).iterdir())


def test_a_major_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing, match="postgres 17 is needed"):
        ThrowawayServer.of_major(17, programs=tmp_path)


def test_what_both_starter_and_watchdog_left_is_wiped_before_the_next_one(pg_bin: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lockstep.postgres.throwaway import ThrowawayServer\n"
        f"s = ThrowawayServer(Path({str(pg_bin)!r}), tcp=False)\n"
        "print(s.folder, s._sockets, s._process.pid, s._watchdog.pid, flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with ThrowawayServer(pg_bin, tcp=False) as living:
        assert process.stdout is not None
        folder, sockets, pid, watchdog = process.stdout.readline().split()
        sweep()
        assert Path(folder, "data").is_dir() and not _gone(int(pid)), "somebody lives there"
        os.kill(int(watchdog), signal.SIGKILL)
        process.kill()
        process.wait(20)
        process.stdout.close()
        sweep()
        assert not Path(folder).exists() and not Path(sockets).exists() and _gone(int(pid))
        with psycopg.connect(living.url()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def _major(pg_bin: Path) -> str:
    text = subprocess.run([pg_bin / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    return text.split(")")[1].split(".")[0].strip()


def test_the_tutorials_server_has_the_databases_that_were_named_and_is_gone_at_its_end() -> None:
    command = [sys.executable, "-m", "lockstep.tryout", "shop_dev", "shop"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as trial:
        assert trial.stdout is not None
        urls = [trial.stdout.readline().strip() for _ in range(2)]
        for url, name in zip(urls, ("shop_dev", "shop"), strict=True):
            with psycopg.connect(url) as connection:
                assert connection.info.dbname == name
        trial.send_signal(signal.SIGINT)
        assert trial.wait(60) == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(urls[0], connect_timeout=2)
