"""Why a connection did not come about: found out by a handshake of our own, since libpq only has words for it.

Asked after a failure alone. It sends no password and no SQL, and decides nothing: whether a connection is good enough is
libpq's business.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PATIENCE = 3.0  # seconds for each step
ALERT = 0.5  # seconds in which a server that does not like our certificate says so: with TLS 1.3 after the handshake

_PROTOCOL = 196608  # 3.0
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # the protocol's own: length 8, code 80877103

# X509_V_ERR_…, of openssl/x509_vfy.h
_NOT_YET, _EXPIRED, _SELF_SIGNED = 9, 10, 18
_UNKNOWN = frozenset({2, 19, 20, 21})
_NAME = frozenset({62, 64})

_ROOT = "give the certificate of the authority that signed it: sslrootcert=FILE in the URL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What is in the way of TLS."""

    cause: str  # in words, without a final stop
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """What came of our own."""

    reached: bool = False  # the server answered
    trouble: Trouble | None = None  # None: TLS is not in the way, or nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    host: str  # its name, as the certificate should have it
    address: str  # where to connect
    port: int
    mode: str
    root: str | None  # file of trusted authorities; system; None: libpq's default file
    certificate: str | None
    key: str | None


def try_tls(parameters: Mapping[str, str]) -> Handshake:
    """Try TLS with these libpq parameters, where they demand it. Takes some seconds at most; raises nothing."""
    wanted = _wanted(parameters)
    if wanted is None:
        return Handshake()
    if (found := _of_files(wanted)) is not None:
        return Handshake(trouble=found)
    with suppress(OSError, ValueError):
        return Handshake(reached=True, trouble=_shake(wanted))
    return Handshake()


def refused_with(parameters: Mapping[str, str]) -> str | None:
    """Return the SQLSTATE that a server answers to who it is that connects, before it asks for a password.

    So it says that it is starting, or full. Takes some seconds at most; None where it says nothing of the kind.
    """

    def value(name: str, variable: str) -> str:
        return parameters.get(name) or os.environ.get(variable, "")

    host = value("hostaddr", "PGHOSTADDR") or value("host", "PGHOST")
    port, user = value("port", "PGPORT") or "5432", value("user", "PGUSER")
    if not host or "," in host + port or not port.isdigit() or not user:
        return None
    database = value("dbname", "PGDATABASE") or user
    packet = b"".join(f"{one}\0".encode() for one in ("user", user, "database", database)) + b"\0"
    packet = struct.pack("!II", len(packet) + 8, _PROTOCOL) + packet
    wanted = _wanted(parameters)
    with suppress(OSError, ValueError), _open(host, int(port)) as plain:
        if wanted is None:
            return _sqlstate(plain, packet)
        # To whom libpq would not have said who it is, this does not either.
        plain.sendall(_SSL_REQUEST)
        if plain.recv(1) == b"S":
            with _context(wanted).wrap_socket(plain, server_hostname=wanted.host) as secure:
                return _sqlstate(secure, packet)
    return None


def _open(host: str, port: int) -> socket.socket:
    if not host.startswith("/"):
        return socket.create_connection((host, port), timeout=PATIENCE)
    local = socket.socket(socket.AF_UNIX)
    local.settimeout(PATIENCE)
    local.connect(f"{host}/.s.PGSQL.{port}")
    return local


def _sqlstate(connection: socket.socket, packet: bytes) -> str | None:
    """An ErrorResponse is E, its length, and fields: a letter and a text each, ended by zero; C is the SQLSTATE."""
    connection.sendall(packet)
    answer = connection.recv(4096)
    if answer[:1] != b"E":
        return None
    fields = {one[:1]: one[1:] for one in answer[5:].split(b"\0") if one}
    return fields.get(b"C", b"").decode(errors="replace") or None


def _wanted(parameters: Mapping[str, str]) -> _Wanted | None:
    """What libpq was asked for; None for sockets, and for several hosts, of which nobody knows which one it was."""

    def value(name: str, variable: str) -> str:
        return parameters.get(name) or os.environ.get(variable, "")

    host, address = value("host", "PGHOST"), value("hostaddr", "PGHOSTADDR")
    port, mode = value("port", "PGPORT") or "5432", value("sslmode", "PGSSLMODE")
    where = address or host
    if not where or where.startswith(("/", "@")) or "," in where + port or not port.isdigit():
        return None
    if mode not in {"require", "verify-ca", "verify-full"}:
        return None
    home = Path.home() / ".postgresql"
    certificate, key = (
        value(name, variable) or (str(file) if (file := home / default).exists() else "")
        for name, variable, default in (
            ("sslcert", "PGSSLCERT", "postgresql.crt"), ("sslkey", "PGSSLKEY", "postgresql.key"),
        )
    )  # fmt: skip
    return _Wanted(
        host=host or where, address=where, port=int(port), mode=mode, root=value("sslrootcert", "PGSSLROOTCERT") or None,
        certificate=certificate or None, key=key or None,
    )  # fmt: skip


def _of_files(wanted: _Wanted) -> Trouble | None:
    """What is wrong with files of ours, without asking anybody."""
    verified = wanted.mode != "require"
    if verified and wanted.root not in {None, "system"} and not Path(wanted.root or "").is_file():
        return Trouble(cause=f"the file with the root certificate, {wanted.root}, is not there", remedy=_ROOT)
    if wanted.certificate and wanted.key:
        with suppress(OSError):
            if (mode := Path(wanted.key).stat().st_mode) & 0o007 or mode & 0o030:
                return Trouble(
                    cause=f"the client certificate's key, {wanted.key}, may be read by others (mode {mode & 0o777:03o})",
                    remedy=f"chmod 600 {wanted.key}",
                )
    return None


def _context(wanted: _Wanted) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if wanted.mode != "require":
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = wanted.mode == "verify-full"
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # libpq is not
        if wanted.root == "system":
            context.load_default_certs()
        else:
            context.load_verify_locations(wanted.root or str(Path.home() / ".postgresql" / "root.crt"))
    if wanted.certificate and wanted.key:
        context.load_cert_chain(wanted.certificate, wanted.key, password=lambda: "")
    return context


def _shake(wanted: _Wanted) -> Trouble | None:
    context = _context(wanted)
    with socket.create_connection((wanted.address, wanted.port), timeout=PATIENCE) as plain:
        plain.sendall(_SSL_REQUEST)
        if (answer := plain.recv(1)) != b"S":
            return _without() if answer == b"N" else None
        try:
            with context.wrap_socket(plain, server_hostname=wanted.host) as secure:
                secure.settimeout(ALERT)
                with suppress(TimeoutError):
                    secure.recv(1)
        except ssl.SSLCertVerificationError as error:
            return _judged(error.verify_code, wanted)
        except ssl.SSLError as error:
            if wanted.certificate and "ALERT" in (error.reason or ""):
                return _refused(wanted.certificate)
    return None


def _without() -> Trouble:
    return Trouble(
        cause="the server does not offer TLS, or somebody in between took the offer away; no password was sent",
        remedy="turn TLS on at the server (ssl = on, and a certificate), or reach it through a tunnel to localhost",
    )


def _refused(file: str) -> Trouble:
    return Trouble(
        cause=f"the server refuses the client certificate {file}",
        remedy="it has to be from an authority in the server's ssl_ca_file, and not expired: sslcert=FILE and sslkey=FILE",
    )


def _judged(code: int, wanted: _Wanted) -> Trouble:
    whose = "the server's certificate"
    if code in {_EXPIRED, _NOT_YET}:
        _, dates = _seen(wanted)
        when = f" at {dates[code == _EXPIRED]:%Y-%m-%d %H:%M} UTC" if dates else ""
        what = f"{whose} expired{when}" if code == _EXPIRED else f"{whose} is valid only from{when.replace(' at', '')}"
        remedy = "renew the server's certificate, or that of its authority"
        return Trouble(
            cause=what, remedy=remedy if code == _EXPIRED else "set the clock that is wrong: date shows this one"
        )
    if code in _NAME:
        names, _ = _seen(wanted)
        theirs = f"is for {', '.join(names[:3])}, and not for {wanted.host}" if names else f"is not for {wanted.host}"
        return Trouble(
            cause=f"{whose} {theirs}",
            remedy="use the name in the certificate as the URL's host (and the address as hostaddr=…), or have one made for "
            "this name",
        )
    if code == _SELF_SIGNED:
        return Trouble(
            cause=f"{whose} is signed by itself", remedy="trust it alone, if it is known: sslrootcert=FILE with it"
        )
    where = "the system's" if wanted.root == "system" else wanted.root or "~/.postgresql/root.crt"
    if code in _UNKNOWN:
        return Trouble(cause=f"{whose} is not from an authority in {where}", remedy=_ROOT)
    return Trouble(cause=f"{whose} does not hold (X.509 error {code})", remedy=_ROOT)


def _seen(wanted: _Wanted) -> tuple[tuple[str, ...], tuple[datetime, datetime] | None]:
    """The names in the certificate that the server shows, and from when to when it is valid."""
    from cryptography import x509  # late: only a certificate that does not hold needs it

    dates: tuple[datetime, datetime] | None = None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((wanted.address, wanted.port), timeout=PATIENCE) as plain:
            plain.sendall(_SSL_REQUEST)
            plain.recv(1)
            with context.wrap_socket(plain, server_hostname=wanted.host) as secure:
                found = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
        dates = found.not_valid_before_utc.astimezone(UTC), found.not_valid_after_utc.astimezone(UTC)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(str(one.value) for one in names), dates
    except (OSError, ValueError):
        return (), None
    except x509.ExtensionNotFound:
        return (), dates
