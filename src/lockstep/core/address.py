"""Connection addresses: URLs as people paste them, turned into parameters that libpq understands.

libpq takes the first `@` of a URL as the end of the credentials; Node's drivers take the last. Users paste URLs that
worked there, so the last one wins here too. Nothing in this module puts a password into a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a target is. An empty field is left to libpq (PG* variables, service file, .pgpass)."""

    host: str = ""  # name, address or socket folder; may be a comma separated list
    port: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    database: str = ""
    options: Mapping[str, str] = field(default_factory=dict)  # all other parameters, sslmode among them

    @property
    def shown(self) -> str:
        """What messages may show: host, port and database. Never user's secrets."""
        place = self.host or (self.options.get("service") and f"service {self.options['service']}") or "local socket"
        port = f":{self.port}" if self.port and self.port != "5432" else ""
        return f"{place}{port}/{self.database}" if self.database else f"{place}{port}"

    @property
    def is_local(self) -> bool:
        """True when the connection cannot leave this machine, so TLS adds nothing."""
        hosts = self.options.get("hostaddr") or self.host
        if not hosts:
            return "service" not in self.options
        return all(is_local_host(host) for host in hosts.split(","))

    def parameters(self) -> dict[str, str]:
        """Keyword parameters for libpq, only those that are given. Holds the password."""
        own = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
        }
        return {**self.options, **{name: value for name, value in own.items() if value}}


def is_local_host(host: str) -> bool:
    """True for a socket folder, localhost and loopback addresses; a name that merely looks like one is not."""
    if host.startswith(("/", "@")) or host.lower() in {"", "localhost"}:
        return True
    if not host[0].isdigit() and ":" not in host:
        return False
    from ipaddress import ip_address  # late: most hosts are names

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


# As the standard has it. Without credentials the host must look like one, or a password with `/` or `?` would pass
# for host and database.
_STRICT = re.compile(
    r"(?:(?P<who>[^/?#@]*)@(?P<where>[^/?#@]*)|(?P<bare>[^/?#@:]*|[^/?#@]*:\d+|\[[^/?#@\]]*\]))"
    r"(?:/(?P<db>[^?#@]*))?(?:\?(?P<query>[a-z_]+=[^#]*)?)?"
)
_LENIENT = re.compile(r"(?P<who>.*)@(?P<where>[^/?@]*)(?:/(?P<db>[^?]*))?(?:\?(?P<query>.*))?", re.DOTALL)
_HOST = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[^:,\[\]]*)(?::(?P<port>\d*))?")


def parse_address(url: str) -> Address:
    """Return the parts of a `postgresql://` URL, of a `key=value` string, or of nothing ("" means libpq's defaults).

    Raises ValueError; its text never repeats the URL.
    """
    url = url.strip()
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _key_values(url)
    if scheme.lower() not in {"postgres", "postgresql"}:
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9+]*", scheme):
            raise ValueError(f"the URL must start with postgresql://, not {scheme}://")
        raise ValueError("the URL must start with postgresql://")
    match = _STRICT.fullmatch(rest) or _LENIENT.fullmatch(rest)
    if match is None:
        raise ValueError("the URL cannot be read; it should look like postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    parts = match.groupdict()
    user, _, password = (parts["who"] or "").partition(":")
    hosts, ports = _hosts(parts["where"] or parts.get("bare") or "")
    options = dict(parse_qsl(match["query"] or "", keep_blank_values=True))
    return Address(
        host=options.pop("host", "") or ",".join(hosts),
        port=options.pop("port", "") or ",".join(ports) if any(ports) or "port" in (match["query"] or "") else "",
        user=options.pop("user", "") or unquote(user),
        password=options.pop("password", "") or unquote(password),
        database=options.pop("dbname", "") or unquote(match["db"] or ""),
        options=options,
    )


def _hosts(text: str) -> tuple[list[str], list[str]]:
    hosts, ports = [], []
    for part in text.split(","):
        match = _HOST.fullmatch(part)
        if match is None:
            raise ValueError("the URL's host or port cannot be read")
        hosts.append(unquote(match["host"]).strip("[]"))
        ports.append(match["port"] or "")
    return hosts, ports


_PAIR = re.compile(r"\s*([a-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s\\']|\\.)*))(?=\s|$)")


def _key_values(text: str) -> Address:
    options: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None:
            raise ValueError("neither a postgresql:// URL nor key=value pairs (host=… dbname=…)")
        options[match[1]] = re.sub(r"\\(.)", r"\1", match[2] if match[2] is not None else match[3])
        at = match.end()
        while at < len(text) and text[at].isspace():
            at += 1
    return Address(
        host=options.pop("host", ""),
        port=options.pop("port", ""),
        user=options.pop("user", ""),
        password=options.pop("password", ""),
        database=options.pop("dbname", ""),
        options=options,
    )
