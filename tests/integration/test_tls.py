"""TLS against real servers, and against somebody in between: what is refused, the cause, the remedy, and what is not sent."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lockstep.postgres.throwaway import FAST, ThrowawayServer
from tests.project import Outcome, Project

NAME = "db.lockstep.test"  # of the server, in its certificate
CANARY = "c4nary-passw0rd"
SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    file: Path  # PEM; the key is beside it

    @property
    def key_file(self) -> Path:
        return self.file.with_suffix(".key")


def certificate(
    folder: Path, name: str, *, signer: Pair | None = None, subject: str = NAME, names: tuple[str, ...] = (NAME, "127.0.0.1"),
    days: int = 2, authority: bool = False,
) -> Pair:  # fmt: skip
    """Make one; without a signer it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(who).issuer_name(signer.certificate.subject if signer else who)
    made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=5)).not_valid_after(now + timedelta(days=days))
    made = made.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    if not authority:
        known = [x509.IPAddress(ip_address(one)) if one[0].isdigit() else x509.DNSName(one) for one in names]
        made = made.add_extension(x509.SubjectAlternativeName(known), critical=False)
    signed = made.sign(signer.key if signer else key, hashes.SHA256())
    pair = Pair(certificate=signed, key=key, file=folder / f"{name}.crt")
    encryption, form = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    for file, data in (
        (pair.file, signed.public_bytes(serialization.Encoding.PEM)),
        (pair.key_file, key.private_bytes(serialization.Encoding.PEM, form, encryption)),
    ):
        file.touch(mode=0o600)
        file.write_bytes(data)
    return pair


@dataclass(kw_only=True)
class Site:
    """A server with TLS, and what is known of it."""

    server: ThrowawayServer
    folder: Path
    authority: Pair
    stranger: Pair  # another authority

    def url(self, query: str, *, user: str = "tls_user", host: str = NAME, port: int | None = None) -> str:
        where = f"hostaddr=127.0.0.1&port={port or self.server.port}"
        return f"postgresql://{user}:{CANARY}@{host}/postgres?{where}&{query}"

    @contextmanager
    def shows(self, pair: Pair) -> Iterator[None]:
        """Let the server show another certificate meanwhile."""
        self._show(pair)
        try:
            yield
        finally:
            self._show(self.good)

    good: Pair

    def _show(self, pair: Pair) -> None:
        for file, name in ((pair.file, "shown.crt"), (pair.key_file, "shown.key")):
            there = self.folder / "server" / name
            shutil.copyfile(file, there)
            there.chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(there, "nobody")
        with psycopg.connect(self.server.url() + "?sslmode=disable", autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
        self._await(pair)

    def _await(self, pair: Pair) -> None:
        """The postmaster reads its files a moment later."""
        wanted = pair.certificate.public_bytes(serialization.Encoding.DER)
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", self.server.port)) as plain:
                plain.sendall(SSL_REQUEST)
                if plain.recv(1) == b"S":
                    context = ssl.create_default_context()
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                    with context.wrap_socket(plain) as secure:
                        if secure.getpeercert(binary_form=True) == wanted:
                            return
            threading.Event().wait(0.02)
        raise AssertionError("the server still shows another certificate")


@pytest.fixture(scope="module")
def site(pg_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("tls")
    (folder / "server").mkdir()
    for above in (
        folder / "server",
        folder,
        *folder.parents,
    ):  # the server runs as nobody, and pytest's folders are closed
        if above.owner() == "root" and len(above.parts) > 2:
            above.chmod(above.stat().st_mode | 0o011)
    authority = certificate(folder, "authority", subject="a private authority", authority=True)
    stranger = certificate(folder, "stranger", subject="another authority", authority=True)
    good = certificate(folder, "good", signer=authority)
    with ThrowawayServer(pg_bin, settings=FAST) as server:
        rules = "hostssl all tls_cert all scram-sha-256 clientcert=verify-full\nhostssl all tls_md5 all md5\n"
        hba = server.folder / "data" / "pg_hba.conf"
        hba.write_text(rules + hba.read_text())
        made = Site(server=server, folder=folder, authority=authority, stranger=stranger, good=good)
        for file, name in ((good.file, "shown.crt"), (good.key_file, "shown.key"), (authority.file, "clients.crt")):
            shutil.copyfile(file, folder / "server" / name)
            (folder / "server" / name).chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(folder / "server" / name, "nobody")
        with psycopg.connect(server.url(), autocommit=True) as connection:
            for name in ("tls_user", "tls_cert"):
                connection.execute(f"CREATE ROLE {name} LOGIN SUPERUSER PASSWORD '{CANARY}'".encode())
            connection.execute("SET password_encryption = 'md5'")
            connection.execute(f"CREATE ROLE tls_md5 LOGIN SUPERUSER PASSWORD '{CANARY}'".encode())
            shown = folder / "server"
            for setting, value in {
                "ssl_cert_file": shown / "shown.crt", "ssl_key_file": shown / "shown.key",
                "ssl_ca_file": shown / "clients.crt", "ssl": "on",
            }.items():  # fmt: skip
                connection.execute(f"ALTER SYSTEM SET {setting} = '{value}'".encode())
            connection.execute("SELECT pg_reload_conf()")
        made._await(good)
        yield made


@pytest.fixture
def tls(site: Site, project: Project) -> Callable[..., Outcome]:
    """Ask for a status by a URL; look that nothing secret is said."""

    def ask(query: str, *words: str, **place: object) -> Outcome:
        project.urls["dev"] = site.url(query, **place)  # type: ignore[arg-type]
        done = project.run(*(words or ("status", "--check")))
        assert CANARY not in done.out + done.err
        return done

    return ask


def test_verify_full_against_a_private_authority_works_and_doctor_says_how(
    site: Site, tls: Callable[..., Outcome]
) -> None:
    full = f"sslmode=verify-full&sslrootcert={site.authority.file}"
    assert tls(full, "init").code == 0
    assert tls(full).code == 0
    assert tls(f"{full}&channel_binding=require").code == 0
    (found,) = [
        check
        for section in tls(f"{full}&channel_binding=require", "doctor", "dev", "--json").document["sections"]
        for check in section["checks"]
        if check["name"] == "TLS"
    ]
    assert found["outcome"] == "ok"
    assert found["text"].startswith("TLSv1.3 ") and found["text"].endswith(", verify-full, channel binding required")


#: fault -> (the certificate that the server shows, query, cause, remedy)
BAD: dict[str, tuple[Callable[[Site], Pair], str, str, str]] = {
    "another host": (
        lambda s: certificate(s.folder, "other", signer=s.authority, names=("elsewhere.lockstep.test",)), "verify-full&sslrootcert={root}",
        f"is for elsewhere.lockstep.test, and not for {NAME}", "use the name in the certificate",
    ),
    "expired": (
        lambda s: certificate(s.folder, "old", signer=s.authority, days=-1), "verify-full&sslrootcert={root}",
        "expired at 2", "renew the server's certificate",
    ),
    "signed by itself": (
        lambda s: certificate(s.folder, "self"), "verify-full&sslrootcert={root}",
        "is signed by itself", "sslrootcert=FILE",
    ),
    "another authority": (
        lambda s: certificate(s.folder, "strange", signer=s.stranger), "verify-ca&sslrootcert={root}",
        "is not from an authority in", "sslrootcert=FILE",
    ),
    "a private authority, and the system's are trusted": (lambda s: s.good, "verify-full&sslrootcert=system", "is not from an authority", "sslrootcert=FILE"),
    "no root certificate": (lambda s: s.good, "verify-full&sslrootcert=/nowhere/root.crt", "/nowhere/root.crt", "sslrootcert=FILE"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_a_certificate_that_does_not_hold_is_refused_with_cause_and_remedy(
    fault: str, site: Site, tls: Callable[..., Outcome]
) -> None:
    make, query, cause, remedy = BAD[fault]
    with site.shows(make(site)):
        done = tls(f"sslmode={query.format(root=site.authority.file)}")
    assert done.code == 8, done
    assert cause in done.err and remedy in done.err.partition("next: ")[2], done.err


# -- somebody in between ---------------------------------------------------------------------------------------------


class Between:
    """Somebody between client and server. `strips`: says that there is no TLS; else they end it with `pair` and begin anew."""

    def __init__(self, port: int, *, pair: Pair | None = None) -> None:
        self._target, self._pair = port, pair
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.heard = bytearray()  # what the client said, in clear
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with ExitStack() as open_ones, suppress(OSError, ssl.SSLError):
            open_ones.enter_context(client)
            first = client.recv(8)
            if first == SSL_REQUEST and self._pair is None:
                client.sendall(b"N")
            elif first == SSL_REQUEST:
                client.sendall(b"S")
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self._pair.file, self._pair.key_file)  # type: ignore[union-attr]
                client = open_ones.enter_context(context.wrap_socket(client, server_side=True))
                first = b""
            server = open_ones.enter_context(socket.create_connection(("127.0.0.1", self._target)))
            if self._pair is not None:
                server.sendall(SSL_REQUEST)
                assert server.recv(1) == b"S"
                trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
                server = open_ones.enter_context(trusting.wrap_socket(server))
            elif first != SSL_REQUEST:
                self.heard += first
                server.sendall(first)
            back = threading.Thread(target=self._pump, args=(server, client, None), daemon=True)
            back.start()
            self._pump(client, server, self.heard)
            back.join(10)

    def _pump(self, source: socket.socket, sink: socket.socket, heard: bytearray | None) -> None:
        with suppress(OSError, ssl.SSLError, ValueError):
            while data := source.recv(65536):
                if heard is not None:
                    heard += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Between:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.mark.parametrize("host", ["127.1", NAME], ids=["elsewhere", "asked for"])
def test_who_takes_the_offer_of_tls_away_hears_nothing(
    host: str, site: Site, tls: Callable[..., Outcome], project: Project
) -> None:
    with Between(site.server.port) as between:
        if host == NAME:
            done = tls("sslmode=require", port=between.port)
        else:  # an address that Lockstep does not take for this machine's: it asks for TLS by itself
            project.urls["dev"] = f"postgresql://tls_user:{CANARY}@127.1:{between.port}/postgres"
            done = project.run("status")
        assert done.code == 8 and CANARY not in done.err
        assert "does not offer TLS, or somebody in between took the offer away" in done.err, done.err
        assert "ssl = on" in done.err.partition("next: ")[2]
        assert between.heard == b""


def test_who_ends_tls_in_between_is_found_by_channel_binding_or_by_their_certificate(
    site: Site, tls: Callable[..., Outcome]
) -> None:
    pair = certificate(site.folder, "between", signer=site.stranger)
    with Between(site.server.port, pair=pair) as between:
        for query in ("sslmode=require&channel_binding=require", "sslmode=require"):  # SCRAM binds where it can
            done = tls(query, port=between.port)
            assert done.code == 8 and "channel binding" in done.err, done.err
        assert b"tls_user" in between.heard and CANARY.encode() not in between.heard
        done = tls(f"sslmode=verify-full&sslrootcert={site.authority.file}", port=between.port)
        assert done.code == 8 and "is not from an authority in" in done.err


def test_a_server_that_cannot_bind_the_channel_is_refused_where_that_is_required(
    site: Site, tls: Callable[..., Outcome]
) -> None:
    done = tls("sslmode=require&channel_binding=require", user="tls_md5")
    assert done.code == 8 and "channel binding required" in done.err
    assert "scram-sha-256" in done.err.partition("next: ")[2], done.err


# -- client certificates ----------------------------------------------------------------------------------------------


def test_client_certificates(site: Site, tls: Callable[..., Outcome]) -> None:
    ours = certificate(site.folder, "ours", signer=site.authority, subject="tls_cert")
    theirs = certificate(site.folder, "theirs", signer=site.authority, subject="somebody_else")
    strange = certificate(site.folder, "unknown", signer=site.stranger, subject="tls_cert")
    full = f"sslmode=verify-full&sslrootcert={site.authority.file}"

    def by(pair: Pair) -> Outcome:
        return tls(f"{full}&sslcert={pair.file}&sslkey={pair.key_file}", user="tls_cert")

    tls(full, "init")
    assert by(ours).code == 0
    done = tls(full, user="tls_cert")
    assert done.code == 8 and "requires a valid client certificate" in done.err
    assert "sslcert=FILE and sslkey=FILE" in done.err.partition("next: ")[2]
    done = by(theirs)
    assert (
        done.code == 8
        and "authentication failed for user" in done.err
        and "client certificate" in done.err.partition("next: ")[2]
    ), done.err
    done = by(strange)
    assert done.code == 8 and "the server refuses the client certificate" in done.err, done.err
    assert "ssl_ca_file" in done.err.partition("next: ")[2]
    ours.key_file.chmod(0o644)
    try:
        done = by(ours)
        assert done.code == 8 and str(ours.key_file) in done.err and "chmod 600" in done.err.partition("next: ")[2], (
            done.err
        )
    finally:
        ours.key_file.chmod(0o600)
