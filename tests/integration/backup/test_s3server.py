"""The throw-away S3 server leaves nothing behind, and is real where backups depend on it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from demo.s3server import S3Server
from tests.integration.backup.store import children


def test_a_stopped_server_leaves_nothing() -> None:
    server = S3Server()
    server.make_bucket("bucket")
    server.client().put_object(Bucket="bucket", Key="key", Body=b"body")
    ports = [server.port + step + offset for step in (0, 10000) for offset in range(5)]
    server.stop()
    server.stop()
    assert not server.folder.exists()
    for port in ports:
        assert list(Path("/tmp").glob(f"seaweedfs-*-{port}.sock")) == []
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_it_dies_with_a_killed_process() -> None:
    code = (
        "from demo.s3server import S3Server; s = S3Server(); print(s.folder, s._sockets, s.port, flush=True); input()"
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    ) as starter:
        assert starter.stdout is not None
        folder, sockets, port = starter.stdout.readline().split()
        (pid,) = children(starter.pid, "weed")
        starter.kill()
    deadline = time.monotonic() + 30
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    _sweep(Path(folder), Path(sockets), int(port))


def test_it_refuses_credentials_that_are_not_its_own(s3: S3Server) -> None:
    s3.client().list_buckets()
    for key, secret in ((s3.access_key, "wrong"), ("wrong", s3.secret_key)):
        session = boto3.session.Session(key, secret, region_name="us-east-1")
        client = session.client("s3", endpoint_url=s3.endpoint_url)
        with pytest.raises(ClientError):
            client.list_buckets()
        client.close()


def _runs(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].startswith("Z")
    except OSError:
        return False


def _sweep(folder: Path, sockets: Path, port: int) -> None:
    """What a killed process cannot remove."""
    server = S3Server.__new__(S3Server)
    server.folder, server._sockets, server.port, server._process = folder, sockets, port, None
    server.stop()
