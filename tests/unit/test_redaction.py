"""What counts as a secret of a project, and the one function that takes secrets out."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.config import load_settings
from lockstep.core.redaction import redact
from lockstep.service.redaction import known_secrets

TOML = """
[environments.dev]
url = "${DEV}"
check = { url = "${CHECK}" }
settings = { list = "${LIST}" }
"""


@pytest.mark.parametrize(
    "secret",
    [
        "p@ss/w0rd", "p%40ss/w0rd", "p%40ss%2Fw0rd",  # a password, in the spellings that it has in URLs
        "element-of-a-list", "check-t0ken-0123", "file:passw0rd", "serv1ce-passw0rd",
    ],
)  # fmt: skip
def test_what_holds_a_secret_is_known(secret: str, tmp_path: Path) -> None:
    (tmp_path / "lockstep.toml").write_text(TOML)
    (tmp_path / "pass").write_text("# host:port:database:user:password\nh:5432:*:u:file\\:passw0rd\n")
    (tmp_path / "service").write_text("[shop]\nhost=h\npassword=serv1ce-passw0rd\n")
    variables = {
        "DEV": f"postgresql://u:p@ss/w0rd@h/d?passfile={tmp_path / 'pass'}",
        "CHECK": "https://app.example/health?key=check-t0ken-0123",
        "LIST": "short, element-of-a-list",
        "PGSERVICEFILE": str(tmp_path / "service"),
    }
    found = known_secrets(load_settings(tmp_path, variables))
    assert redact(f"before {secret} behind", found) == "before *** behind"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("postgresql://u:pw@h/d", "postgresql://***@h/d"),
        ("password=x host=h", "password=*** host=h"),
        ("sslpassword='a b'", "sslpassword=***"),
        ("AGE-SECRET-KEY-1ABC", "***"),
        ('relation "passwords" does not exist', 'relation "passwords" does not exist'),
    ],
)
def test_what_looks_like_a_secret_is_taken_out_of_any_text(text: str, left: str) -> None:
    assert redact(text, ()) == left
