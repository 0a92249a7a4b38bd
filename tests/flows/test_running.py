"""The recipe of deploy/ as it stands: its units' commands, its settings' files, on PostgreSQL, with authentication.

Of the files only paths, ports and secrets are replaced. What systemd itself adds (users, namespaces, filters) is not here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from demo.prefectserver import PrefectServer, _descendants
from demo.s3server import S3Server
from lockstep.postgres.throwaway import free_port
from lockstep.service.prefectapi import Missing, PrefectApi
from tests.flows.conftest import ROOT, App, make_app
from tests.flows.stopped import eventually

DEPLOY = ROOT / "deploy"
LOGIN = "lockstep:c4nary-l0gin-7f3e"  # nobody may ever see it
KEY = "Y2FuYXJ5LWtleS1jYW5hcnkta2V5LWNhbmFyeS1rZXk="


@dataclass(kw_only=True)
class Site:
    """A machine set up by the recipe."""

    folder: Path
    database: str  # URL of the server's own database
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        """What somebody at a terminal of that machine has."""
        return {**self.variables("lockstep-worker"), "HOME": str(self.folder / "home")}

    @property
    def api(self) -> PrefectApi:
        from base64 import b64encode

        return PrefectApi(url=self.api_url, authorization=f"Basic {b64encode(LOGIN.encode()).decode()}", tries=20)

    def _at_home(self, text: str) -> str:
        places = {
            "/opt/lockstep/venv/bin": str(Path(sys.executable).parent),
            "/opt/lockstep/drain.py": str(DEPLOY / "drain.py"),
            "/etc/lockstep": str(self.folder / "etc"),
            "/var/lib": str(self.folder / "var"),
            "%H": "here",
        }
        for place, ours in places.items():
            text = text.replace(place, ours)
        return text

    def install(self) -> None:
        """Copy the settings, and fill in what the files ask for."""
        (self.folder / "etc").mkdir()
        parts = urlsplit(self.database)
        filled = {
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_SERVER_API_AUTH_STRING": LOGIN,
            "PREFECT_API_AUTH_STRING": LOGIN,
            "PREFECT_SERVER_ENCRYPTION_KEY": KEY,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": parts._replace(scheme="postgresql+asyncpg", query="").geturl(),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_UI_URL": f"http://127.0.0.1:{self.port}",
        }
        for file in (DEPLOY / "env").glob("*.env"):
            lines = []
            for line in file.read_text().splitlines():
                name, equals, _ = line.partition("=")
                if name.endswith("DATABASE_URL") or name.startswith(("AWS_", "BACKUP_")):
                    continue  # the project's own .env has them here
                lines.append(f"{name}={filled[name]}" if equals and name in filled else line)
            made = self.folder / "etc" / file.name
            made.write_text("\n".join(lines) + "\n")
            made.chmod(0o600)
            assert "CHANGE-ME" not in re.sub(r"^#.*", "", made.read_text(), flags=re.MULTILINE)

    def lines(self, unit: str, key: str) -> list[str]:
        text = (DEPLOY / "systemd" / f"{unit}.service").read_text()
        return [self._at_home(line) for line in re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)]

    def variables(self, unit: str) -> dict[str, str]:
        """The environment that systemd would give it, and nothing else."""
        found = dict(line.split("=", 1) for line in self.lines(unit, "Environment"))
        for name in self.lines(unit, "EnvironmentFile"):
            for line in Path(name).read_text().splitlines():
                if line and not line.startswith("#"):
                    key, _, value = line.partition("=")
                    found[key] = value
        paths = {name: os.environ[name] for name in ("PYTHONPATH", "COVERAGE_PROCESS_START") if name in os.environ}
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **paths, **found}

    def start(self, unit: str) -> None:
        for name in self.lines(unit, "StateDirectory")[0].split():
            (self.folder / "var" / name).mkdir(parents=True, exist_ok=True)
        (command,) = self.lines(unit, "ExecStart")
        with (self.folder / f"{unit}.log").open("ab") as log:
            self.processes[unit] = subprocess.Popen(
                shlex.split(command),
                env=self.variables(unit),
                cwd=self.lines(unit, "WorkingDirectory")[0],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, unit: str, **variables: str) -> str:
        """As `systemctl stop`: ExecStop, then SIGTERM. Returns what ExecStop said."""
        process = self.processes[unit]
        said = ""
        for command in self.lines(unit, "ExecStop"):
            done = subprocess.run(
                shlex.split(command.replace("$MAINPID", str(process.pid))),
                env={**self.variables(unit), **variables},
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            )
            said += done.stdout + done.stderr
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        return said

    def end(self) -> None:
        for process in self.processes.values():
            for pid in [*_descendants(process.pid), process.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()

    def log(self, unit: str) -> str:
        return (self.folder / f"{unit}.log").read_text(errors="replace")

    def prefect(self, folder: Path, *words: str) -> str:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
        done = subprocess.run(command, cwd=folder, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def answers(self) -> bool:
        with suppress(Exception):
            self.api.get("/admin/version")
            return True
        assert self.processes["prefect-server"].poll() is None, self.log("prefect-server")
        return False


@pytest.fixture
def site(tmp_path: Path, new_database: Callable[[], str]) -> Iterator[Site]:
    made = Site(folder=tmp_path / "site", database=new_database())
    made.folder.mkdir()
    made.install()
    made.start("prefect-server")
    try:
        eventually(made.answers, "the server", 300)
        yield made
    finally:
        made.end()


@pytest.fixture
def shop(tmp_path: Path, site: Site, new_database: Callable[[], str], s3: S3Server) -> App:
    return make_app(tmp_path / "project", new_database(), new_database(), cast(PrefectServer, site), s3)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a minute and a half on a quiet machine
def test_the_recipe_deploys_on_postgresql_with_authentication_and_stops_without_tearing(
    site: Site, shop: App, pg_bin: Path, tmp_path: Path
) -> None:
    said: list[str] = []

    def lockstep(*words: str, **variables: str) -> tuple[int, str]:
        done = shop.lockstep(*words, **variables)
        said.append(done.stdout + done.stderr)
        return done.returncode, said[-1]

    site.start("lockstep-worker")  # it makes the work pool

    def online() -> bool:
        assert site.processes["lockstep-worker"].poll() is None, site.log("lockstep-worker")
        with suppress(Missing):
            return any(one["status"] == "ONLINE" for one in site.api.post("/work_pools/lockstep/workers/filter", {}))
        return False

    eventually(online, "the worker")
    said.append(site.prefect(shop.folder, "deploy", "--all"))

    # Wrong, and none: said at once, with what to set; nothing runs here instead.
    code, text = lockstep("deploy", "dev", PREFECT_API_AUTH_STRING="lockstep:wr0ng-c4nary-l0gin")
    assert code == 2 and "set PREFECT_API_AUTH_STRING" in text and "Traceback" not in text, text
    assert not shop.ledger("dev")
    code, text = lockstep("doctor", PREFECT_API_AUTH_STRING="")
    assert code == 2 and text.count("asks for credentials (HTTP 401)") == 1, text

    # Right, and behind TLS with an authority of one's own: by the worker. One that is not trusted is said as such.
    authority, certificate = _certificates(tmp_path)
    with _Tls(site.port, certificate) as port:
        behind = {"PREFECT_API_URL": f"https://localhost:{port}/api"}
        code, text = lockstep("deploy", "dev", SSL_CERT_FILE="", **behind)
        assert code == 2 and "is not trusted here" in text and "PREFECT_API_SSL_CERT_FILE" in text, text
        behind["PREFECT_API_SSL_CERT_FILE"] = str(authority)
        code, text = lockstep("deploy", "dev", "--reason", "OPS-1", **behind)
        assert code == 0 and f"by the deployment deploy/deploy of https://localhost:{port}/api" in text, text
        assert shop.ledger("dev")[-1] == "003-step.sql"

    # The server's part of the alerts: writes of our own client, behind CSRF.
    code, text = lockstep("alerts", "apply")
    assert code == 0, text
    looked = shop.lockstep("doctor", "--json")
    (section,) = [one for one in json.loads(looked.stdout)["sections"] if one["name"] == "Prefect"]
    assert {check["outcome"] for check in section["checks"]} == {"ok"}, section

    # Stopped in the middle of a migration: told to end, rolled back, and written down; the worker goes after it.
    shop.add("SELECT pg_sleep(600);")
    site.api.post(f"/deployments/{_deployment(site)}/create_flow_run", {"parameters": {"environments": ["dev"]}})
    at_work = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()"
    eventually(lambda: shop.ask("dev", at_work), "the migration")
    seen = _command_lines()
    told = site.stop("lockstep-worker", LOCKSTEP_DRAIN_SECONDS="1")
    assert "1 run under way" in told and "told to end" in told
    eventually(lambda: not shop.ask("dev", at_work), "the statement's end", 30)
    ((details,),) = shop.ask("dev", "SELECT details FROM schema_migrations_log WHERE event = 'stop'")
    assert details["how"] == "SIGTERM" and "rolled back" in details["outcome"]

    # The login is where it was put, and nowhere else.
    site.stop("prefect-server")
    dumped = subprocess.run([str(pg_bin / "pg_dump"), site.database], capture_output=True, text=True, check=True).stdout
    assert "flow_run" in dumped
    stored = [file for file in site.folder.rglob("*") if file.is_file() and file.parent != site.folder / "etc"]
    texts = {str(file): file.read_text(errors="replace") for file in stored}
    texts |= {"the database": dumped, "process list": seen, "terminal": "".join(said)}
    password = urlsplit(site.database).password
    assert password
    for where, text in texts.items():
        for secret in (LOGIN, LOGIN.partition(":")[2], "wr0ng-c4nary", KEY, password):
            assert secret not in text, (secret[:4], where)


# -- what is around it ---------------------------------------------------------------------------------------------------


def _deployment(site: Site) -> str:
    return str(site.api.get("/deployments/name/deploy/deploy")["id"])


def _command_lines() -> str:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found.append((process / "cmdline").read_text(errors="replace").replace("\0", " "))
    return "\n".join(found)


def _certificates(folder: Path) -> tuple[Path, Path]:
    """An authority, and a certificate of localhost with its key: two files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def made(
        name: str, issuer: x509.Name | None, key: Any, signed_with: Any, *extensions: tuple[x509.ExtensionType, bool]
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(
            issuer_name=issuer or subject,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=datetime.now(UTC) - timedelta(hours=1),
            not_valid_after=datetime.now(UTC) + timedelta(hours=1),
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signed_with, hashes.SHA256())

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = made("Our authority", None, root_key, root_key, (x509.BasicConstraints(ca=True, path_length=0), True))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    ours = made("localhost", root.subject, key, root_key, (names, False))
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "authority.pem").write_bytes(root.public_bytes(pem))
    (folder / "server.pem").write_bytes(ours.public_bytes(pem) + private)
    return folder / "authority.pem", folder / "server.pem"


class _Tls:
    """Ends TLS before a port, as a proxy does; with a certificate of localhost."""

    def __init__(self, target: int, certificate: Path) -> None:
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> int:
        threading.Thread(target=self._accept, daemon=True).start()
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        import select

        with suppress(OSError), raw:
            client = self._context.wrap_socket(raw, server_side=True)
            with client, socket.create_connection(("127.0.0.1", self._target)) as server:
                while True:
                    ready = [client] if client.pending() else select.select([client, server], [], [])[0]
                    for source, sink in ((client, server), (server, client)):
                        if source in ready:
                            if not (data := source.recv(65536)):
                                return
                            sink.sendall(data)
