"""`doctor` against real servers: what is wrong is said with its remedy, the rest is still looked at, no secret shows."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from lockstep.core.checkup import Check, Outcome
from lockstep.postgres.throwaway import FAST, ThrowawayServer
from lockstep.service import doctor
from lockstep.service.checkup.findings import Findings
from tests.integration.pooler import Pooler
from tests.integration.test_ledger import database_of
from tests.project import Outcome as Called
from tests.project import Project

CANARY = "canary-7f3a9"


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Prefect server and no profile of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "no-prefect"))


@pytest.fixture
def new_role(server: ThrowawayServer, project: Project) -> Iterator[Callable[..., str]]:
    """Make a login role with a name of its own; return the URL that uses it. Dropped afterwards."""
    made: list[str] = []
    admin = project.urls["dev"]

    def make(*grants: str) -> str:
        name = f"doctor_{database_of(project) if not made else f'{len(made)}_{made[0]}'}"
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pw'").format(sql.Identifier(name)))
            made.append(name)
            for grant in grants:
                connection.execute(grant.replace("WHO", name).encode())
        return server.url(admin.rsplit("/", 1)[1], user=name, password="pw")

    yield make
    with psycopg.connect(admin, autocommit=True) as connection:
        for name in made:
            connection.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(sql.Identifier(name)))


def checks(done: Called, section: str) -> dict[str, dict[str, Any]]:
    """The checks of a section by name."""
    (found,) = [one for one in done.document["sections"] if one["name"] == section]
    return {check["name"]: check for check in found["checks"]}


def outcomes(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {name: check["outcome"] for name, check in found.items()}


def test_all_is_well_where_all_is_well(project: Project) -> None:
    project.run("init")
    done = project.run("doctor")
    assert (done.code, done.err) == (0, "")
    assert "  ok           connection         PostgreSQL 1" in done.out
    assert done.out.splitlines()[-1].startswith("no problems, no warnings")


def test_it_changes_nothing(project: Project, dump: Callable[[str], str]) -> None:
    project.run("init")
    before = dump(project.urls["dev"]), sorted(p.name for p in project.folder.rglob("*"))
    project.run("doctor")
    assert (dump(project.urls["dev"]), sorted(p.name for p in project.folder.rglob("*"))) == before


def test_a_configuration_that_cannot_be_read_leaves_the_machine_to_look_at(project: Project) -> None:
    (project.folder / "lockstep.toml").write_text('[environments.dev]\nulr = "x"\n')
    done = project.run("doctor", "--json")
    assert done.code == 2
    assert checks(done, "project")["configuration"]["text"].startswith("lockstep.toml:2: unknown key")
    assert outcomes(checks(done, "machine"))["versions"] == "ok"


def test_every_unset_variable_is_named_once_and_the_other_environment_is_still_looked_at(project: Project) -> None:
    (project.folder / "lockstep.toml").write_text(
        '[environments.dev]\nurl = "${DEV_URL}"\nsettings = { token = "${TOKEN_OF_DEV}" }\n'
        '[environments.late]\nurl = "${LATE_URL}"\n'
    )
    done = project.run("doctor", "--json")
    found = [c for s in done.document["sections"] for c in s["checks"] if c["name"] == "variables"]
    assert done.code == 2 and done.document["problems"] == 2
    assert [check["text"].split(" ")[0] for check in found] == ["TOKEN_OF_DEV", "LATE_URL"]
    assert "environments.late.url (lockstep.toml:5)" in found[1]["text"]
    assert checks(done, "late")["connection"]["outcome"] == "not checked"
    assert checks(done, "dev")["connection"]["outcome"] == "ok"
    # What another environment needs is nothing to one that was asked for by name.
    project.variables["TOKEN_OF_DEV"] = "t"
    assert project.run("doctor", "dev").code == 0


def test_an_empty_variable_is_said_where_it_cannot_be_meant(project: Project) -> None:
    project.toml = '[backup]\nbucket = "${BUCKET}"\nendpoint_url = "${S3_ENDPOINT_URL}"\n'
    project.configure(dev='settings = { admin_emails = "${ADMIN_EMAILS}" }')
    project.variables = {"ADMIN_EMAILS": "", "S3_ENDPOINT_URL": "", "BUCKET": ""}
    found = [line for line in project.run("doctor").out.splitlines() if " is empty" in line]
    assert len(found) == 1 and "BUCKET is empty; backup.bucket" in found[0]


def test_an_env_file_that_git_tracks_is_a_problem_and_one_that_all_may_read_a_warning(project: Project) -> None:
    file = project.folder / ".env"
    file.write_text("A=1\n")
    file.chmod(0o644)
    subprocess.run(["git", "init", "--quiet", str(project.folder)], check=True)
    done = project.run("doctor", "--json")
    found = [c for s in done.document["sections"] for c in s["checks"] if c["name"] == ".env"]
    assert (done.code, [check["outcome"] for check in found]) == (0, ["warning", "warning"])
    (project.folder / ".gitignore").write_text(".env\n")
    file.chmod(0o600)
    assert checks(project.run("doctor", "--json"), "project")[".env"]["outcome"] == "ok"
    subprocess.run(["git", "-C", str(project.folder), "add", "--force", ".env"], check=True)
    done = project.run("doctor", "--json")
    assert done.code == 2
    assert checks(done, "project")[".env"]["remedy"].startswith("git rm --cached .env")


# -- connections -------------------------------------------------------------------------------------------------------


def test_an_environment_that_does_not_answer_hides_nothing_of_the_others(project: Project) -> None:
    project.urls["gone"] = f"postgresql://u:{CANARY}@127.0.0.1:1/d"
    project.configure()
    done = project.run("doctor", "--json")
    assert done.code == 8
    assert "Connection refused" in checks(done, "gone")["connection"]["text"]
    assert set(outcomes(checks(done, "gone")).values()) == {"problem", "not checked"}
    assert checks(done, "dev")["connection"]["outcome"] == "ok"


def test_a_server_that_takes_connections_and_never_answers_is_given_up(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lockstep.service.checkup.environment.CONNECT_TIMEOUT", "2")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        project.urls["mute"] = f"postgresql://u:{CANARY}@127.0.0.1:{mute.getsockname()[1]}/d"
        project.configure()
        begun = time.monotonic()
        done = project.run("doctor", "--json", "mute")
    assert (done.code, time.monotonic() - begun < 6) == (8, True)
    assert "timeout" in checks(done, "mute")["connection"]["text"]


def test_a_part_that_hangs_keeps_nobody_waiting_and_what_it_found_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PATIENCE", 0.2)
    let_go = threading.Event()
    slow, quick = Findings("slow"), Findings("quick")

    def hang() -> None:
        slow.add(Check(name="first", outcome=Outcome.OK, text=""))
        let_go.wait(30)

    begun = time.monotonic()
    try:
        late = doctor._side_by_side([(slow, hang), (quick, lambda: None)], patient_with=quick)
        took = time.monotonic() - begun
    finally:
        let_go.set()
    assert took < 2
    assert (late, len(slow.checks)) == ([slow], 1)


def test_a_check_that_breaks_is_a_line_without_its_text() -> None:
    findings = Findings("x")
    with findings.checking("broken"):
        raise KeyError(CANARY)
    (check,) = findings.checks
    assert check.exit_code == 1 and "unexpected KeyError at test_doctor.py:" in check.text
    assert CANARY not in check.text


def test_tls_is_shown_with_protocol_and_cipher(pg_bin: Path, tmp_path: Path, project: Project) -> None:
    certificate, key = self_signed(tmp_path)
    settings = {**FAST, "ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
    with ThrowawayServer(pg_bin, settings=settings) as server:
        project.urls["dev"] = f"{server.url()}?sslmode=require"
        found = checks(project.run("doctor", "--json"), "dev")["TLS"]
    assert re.fullmatch(r"TLSv1\.3 TLS_\w+, require", found["text"])


def self_signed(folder: Path) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    certificate = made.sign(key, hashes.SHA256())
    for file, data in (
        (folder / "cert.pem", certificate.public_bytes(serialization.Encoding.PEM)),
        (
            folder / "key.pem",
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        ),
    ):
        file.touch(mode=0o600)
        file.write_bytes(data)
        if os.geteuid() == 0:
            shutil.chown(file, "nobody")
    for above in (folder, *folder.parents):  # the server runs as nobody, and pytest's folders are closed
        if above.owner() == "root" and len(above.parts) > 2:
            above.chmod(above.stat().st_mode | 0o011)
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.pooler
@pytest.mark.parametrize(
    ("mode", "code", "outcome", "name"), [("session", 0, "ok", "pooler"), ("transaction", 2, "problem", "connection")]
)
def test_a_pooler_is_told_and_one_in_transaction_mode_is_a_problem(
    project: Project, mode: str, code: int, outcome: str, name: str
) -> None:
    with Pooler(project.urls["dev"], mode=mode) as pooler:
        project.urls["dev"] = pooler.url()
        done = project.run("doctor", "--json")
    found = checks(done, "dev")[name]
    assert (done.code, found["outcome"]) == (code, outcome)
    assert f"in {mode} mode" in found["text"]


# -- roles -------------------------------------------------------------------------------------------------------------


def test_a_role_that_cannot_be_taken_is_said_and_the_server_is_still_looked_at(
    project: Project, new_role: Callable[..., str]
) -> None:
    project.urls["dev"] = new_role()
    project.configure(dev='role = "pg_monitor"')
    done = project.run("doctor", "--json")
    found = checks(done, "dev")
    assert done.code == 2
    assert "permission denied to set role" in found["role"]["text"]
    assert found["connection"]["outcome"] == found["clock"]["outcome"] == "ok"
    assert found["schemas"]["outcome"] == "not checked"


def test_a_role_without_rights_gets_the_grants_that_a_deploy_needs(
    project: Project, new_role: Callable[..., str]
) -> None:
    admin, project.urls["dev"] = project.urls["dev"], new_role()
    done = project.run("doctor", "--json")
    found = checks(done, "dev")
    assert done.code == 7
    assert found["ledger"]["remedy"].startswith("GRANT USAGE, CREATE ON SCHEMA")
    assert "lacks CREATE" in found["schemas"]["text"]
    assert found["monitoring"]["outcome"] == "warning"
    # The remedies do what they say.
    with psycopg.connect(admin, autocommit=True) as connection:
        for name in ("schemas", "monitoring"):
            connection.execute(found[name]["remedy"].encode())
    after = checks(project.run("doctor", "--json"), "dev")
    assert outcomes(after)["schemas"] == outcomes(after)["monitoring"] == "ok"
    assert outcomes(after)["ledger"] == "warning"  # there is none yet, and it may be made


def test_a_ledger_that_belongs_to_somebody_else_is_a_problem(project: Project, new_role: Callable[..., str]) -> None:
    project.run("init")
    reader = new_role("GRANT SELECT ON schema_migrations, schema_migrations_log TO WHO", "ALTER ROLE WHO BYPASSRLS")
    project.urls["dev"] = reader
    found = checks(project.run("doctor", "--json"), "dev")["ledger"]
    assert (found["outcome"], found["exit_code"]) == ("problem", 7)
    assert "belongs to postgres" in found["text"]


def test_a_login_is_judged_for_its_duty_and_never_offered_more(project: Project, new_role: Callable[..., str]) -> None:
    """What is missing is granted as told until nothing is; the status role can then still change and read nothing."""
    project.query("CREATE TABLE closed (id bigint)")
    admin, reader = project.urls["dev"], new_role()
    name = reader.split("//")[1].split(":")[0]
    project.toml = f'[project]\nledger_reader = "{name}"\n{CLOSED}'
    project.configure(dev='backup_role = "pg_read_all_data"')
    project.query(f"REVOKE USAGE ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO {name}")
    assert project.run("init").code == 0
    project.query(f"REVOKE USAGE ON SCHEMA public FROM {name}; REVOKE SELECT ON schema_migrations FROM {name}")
    project.urls["dev"] = reader
    found = checks(project.run("doctor", "--json"), "dev")
    assert "looks only" in found["duty"]["text"]
    assert (found["ledger"]["outcome"], found["ledger"]["remedy"]) == ("problem", "as the migrator: lockstep init dev")
    remedies = " ".join(check["remedy"] or "" for check in found.values())
    assert "pg_monitor" in remedies and f'GRANT USAGE ON SCHEMA "public" TO "{name}"' in remedies
    assert "CREATE" not in remedies and "read_all_data" not in remedies and "postgres" not in remedies
    project.urls["dev"] = admin
    assert project.run("init").code == 0
    for check in found.values():
        if (check["remedy"] or "").startswith("GRANT"):
            project.query(check["remedy"])
    project.urls["dev"] = reader
    after = checks(project.run("doctor", "--json"), "dev")
    assert "problem" not in outcomes(after).values() and outcomes(after)["schemas"] == "ok"
    for words in ("sync", "init"):
        refused = project.run(words, "dev")
        assert refused.code != 0 and "docs/how-to/roles.md" in refused.err, refused
        assert 'GRANT "' not in refused.err, refused
    for text in ("SELECT FROM closed", "CREATE TABLE more ()"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            project.query(text)


def test_a_ledger_that_is_hidden_is_a_problem_and_never_looks_like_none(
    project: Project, new_role: Callable[..., str]
) -> None:
    project.run("init")
    project.urls["dev"] = new_role("GRANT SELECT ON schema_migrations, schema_migrations_log TO WHO")
    found = checks(project.run("doctor", "--json"), "dev")["ledger"]
    assert (found["outcome"], found["exit_code"]) == ("problem", 4)
    assert "row level security" in found["text"]


def test_a_schema_that_is_not_there_is_a_warning_for_who_may_create_it_and_else_a_problem(
    project: Project, new_role: Callable[..., str]
) -> None:
    project.toml = '[project]\nschemas = ["public", "Not There"]'
    project.configure()
    assert checks(project.run("doctor", "--json"), "dev")["schemas"]["outcome"] == "ok"  # the last of the two lines
    shown = project.run("doctor").out
    assert "warning      schemas            Not There is not there; postgres may create it" in shown
    project.urls["dev"] = new_role()
    assert 'CREATE SCHEMA "Not There" AUTHORIZATION' in project.run("doctor").out


# -- programs and backup rights ----------------------------------------------------------------------------------------

#: Nothing listens there: these tests are about everything but the store.
CLOSED = '[backup]\nbucket = "s3://backups/x"\nendpoint_url = "http://127.0.0.1:1"\n'


def test_missing_programs_are_named_with_the_package(project: Project, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    project.toml = f'{CLOSED}programs = "{tmp_path / "empty"}"'
    project.configure(dev="protected = true")
    found = checks(project.run("doctor", "--json"), "dev")
    assert found["client programs"]["outcome"] == "problem" and found["client programs"]["exit_code"] == 2
    assert re.match(r"apt-get install postgresql-client-\d\d,", found["client programs"]["remedy"])
    assert found["server programs"]["outcome"] == "warning"
    assert re.match(r"apt-get install postgresql-\d\d,", found["server programs"]["remedy"])
    project.configure(dev="protected = false")
    assert checks(project.run("doctor", "--json"), "dev")["client programs"]["outcome"] == "warning"


def test_what_a_backup_could_not_read_is_named_with_the_grant(project: Project, new_role: Callable[..., str]) -> None:
    project.query("CREATE TABLE closed (id bigint)")
    project.toml = CLOSED
    project.configure(dev="protected = true")
    project.urls["dev"] = new_role()
    found = checks(project.run("doctor", "--json"), "dev")["backup rights"]
    assert (found["outcome"], found["exit_code"]) == ("problem", 7)
    assert "public.closed: no SELECT" in found["text"] and "GRANT SELECT ON public.closed" in found["remedy"]
    assert "\n" not in found["text"] + found["remedy"]


# -- secrets -----------------------------------------------------------------------------------------------------------

BAD_URLS = {
    "wrong password": "postgresql://postgres:{canary}@127.0.0.1:{port}/postgres",
    "not a URL": "{canary}@somewhere",
    "bad port": "postgresql://u:{canary}@h:54x/d",
    "unescaped": "postgresql://u:{canary}@x@127.0.0.1:1/d",
    "unknown host": "postgresql://u:{canary}@no-such-host.invalid/d",
    "key=value": "host=127.0.0.1 port=1 user=u password={canary}",
    "in a parameter": "postgresql://u@127.0.0.1:1/d?password={canary}",
    "a bad option": "postgresql://u:{canary}@127.0.0.1:{port}/postgres?options=-c%20{canary}",
    "a bad certificate": "postgresql://u:{canary}@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert=/nowhere",
}


@pytest.mark.parametrize("fault", BAD_URLS)
def test_no_secret_shows_whatever_is_wrong(server: ThrowawayServer, project: Project, fault: str) -> None:
    project.urls["dev"] = BAD_URLS[fault].format(canary=CANARY, port=server.port)
    project.toml = (
        '[backup]\nbucket = "s3://backups/x"\nendpoint_url = "${S3_ENDPOINT_URL}"\n'
        'encrypt_to = ["${AGE_KEY}"]\n[rehearsal]\nidentity = "${AGE_FILE}"\n'
    )
    identity = project.folder / "identity.txt"
    identity.write_text(f"AGE-SECRET-KEY-1{CANARY}\n")
    project.configure(dev='settings = { token = "${TOKEN}" }')
    project.variables = {
        "TOKEN": CANARY,
        "S3_ENDPOINT_URL": f"http://user:{CANARY}@127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": CANARY,
        "AWS_SECRET_ACCESS_KEY": CANARY,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AGE_KEY": f"AGE-SECRET-KEY-1{CANARY}",
        "AGE_FILE": str(identity),
        "PREFECT_API_URL": f"http://user:{CANARY}@127.0.0.1:1/api",
        "PREFECT_API_AUTH_STRING": f"user:{CANARY}",
    }
    for words in (["doctor"], ["doctor", "--json"]):
        done = project.run(*words)
        assert done.code == 8, done
        assert CANARY not in done.out + done.err
        assert "canary" not in (done.out + done.err).lower()


# -- Prefect, from outside ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "outcome", "said"),
    [
        ("http://127.0.0.1:1/api", "problem", "no answer (ConnectionRefusedError)"),
        ("ftp://127.0.0.1/api", "warning", "is not the URL of an API"),
        ("http://127.0.0.1:notaport/api", "warning", "is not the URL of an API"),
    ],
)
def test_a_prefect_server_that_does_not_answer_is_a_problem(
    project: Project, url: str, outcome: str, said: str
) -> None:
    project.variables["PREFECT_API_URL"] = url
    found = [
        check
        for section in project.run("doctor", "--json").document["sections"]
        for check in section["checks"]
        if section["name"] == "Prefect" and check["name"] == "server" and check["outcome"] != "not checked"
    ]
    assert [(check["outcome"], said in check["text"]) for check in found] == [(outcome, True)]


ANSWERS = {
    "wants credentials": (401, {}, b"", "refuses the credentials (HTTP 401)", 2),
    "leads elsewhere": (
        302,
        {"location": "{elsewhere}"},
        b"",
        "it sends elsewhere (HTTP 302); name that address itself",
        8,
    ),
    "a web page": (200, {"content-type": "text/html"}, b"<html>", "is no JSON: is it a Prefect API?", 8),
    "no API here": (404, {}, b"", "HTTP 404: is it a Prefect API?", 8),
}


@pytest.mark.parametrize("fault", ANSWERS)
def test_what_answers_and_is_no_prefect_api_is_said_and_nobody_else_gets_the_credentials(
    project: Project, fault: str
) -> None:
    status, headers, body, said, code = ANSWERS[fault]
    asked: list[tuple[int, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.server.server_port, self.headers["authorization"]))  # type: ignore[attr-defined]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value.format(elsewhere=f"http://127.0.0.1:{other.server_address[1]}/"))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as first, HTTPServer(("127.0.0.1", 0), Handler) as other:
        for one in (first, other):
            threading.Thread(target=one.serve_forever, daemon=True).start()
        project.variables["PREFECT_API_URL"] = f"http://127.0.0.1:{first.server_address[1]}/api"
        project.variables["PREFECT_API_AUTH_STRING"] = f"admin:{CANARY}"
        done = project.run("doctor")
        first.shutdown()
        other.shutdown()
    assert (done.code, said in done.out, CANARY in done.out) == (code, True, False), done
    assert [port for port, _ in asked] == [first.server_address[1]]
    assert str(asked[0][1]).startswith("Basic ")


def test_the_active_profile_of_prefect_names_a_server_too(project: Project) -> None:
    home = project.folder / "home"
    home.mkdir()
    (home / "profiles.toml").write_text(
        'active = "team"\n[profiles.team]\nPREFECT_API_URL = "http://127.0.0.1:1/api"\n'
    )
    project.variables["PREFECT_HOME"] = str(home)
    assert "http://127.0.0.1:1/api: no answer" in project.run("doctor").out


def test_neither_prefect_nor_boto3_is_imported_where_nothing_needs_them(project: Project) -> None:
    code = (
        "import sys; from lockstep.cli.main import main; main(['doctor']);"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'prefect', 'boto3', 'pyrage', 'postgast', 'httpx'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.folder,
        env=project.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
