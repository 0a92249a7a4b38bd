"""Configuration: what is wrong is said with file, line and remedy; secrets are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.config import Secret, load_settings
from lockstep.core.address import parse_address
from lockstep.core.rehearsal.verdict import Budgets
from lockstep.errors import ConfigError, UsageError
from lockstep.postgres.connection import Target, conninfo
from lockstep.service.rehearsal.budgets import budgets_of

BACKUP = '[backup]\nbucket = "s3://b/p"\n'


def write(folder: Path, text: str) -> Path:
    (folder / "lockstep.toml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        (
            '[project]\nmigration = "x"\n',
            "lockstep.toml:2",
            "unknown key 'project.migration'; did you mean 'migrations'",
        ),
        (
            '[environments.dev]\nurll = "x"\n',
            "lockstep.toml:2",
            "unknown key 'environments.dev.urll'; did you mean 'url'",
        ),
        ('[environments.dev]\nafter = "x"\n', "lockstep.toml:2", "environments.dev.after: Expected `array`"),
        ('[environments.dev]\nurl = "postgresql://u:pa55@h/d"\n', "lockstep.toml:2", "holds a password"),
        ('[environments.dev]\nlock_timeout = "fast"\n', "lockstep.toml:2", "is no duration"),
        ('[rehearsal]\nmax_blocking = "fast"\n', "lockstep.toml:2", "rehearsal.max_blocking: 'fast' is no duration"),
        ('[rehearsal]\n\ntime_budget = "10"\n', "lockstep.toml:3", "rehearsal.time_budget: '10' is no duration"),
        ('[rehearsal]\nmax_backup_age = "x"\n', "lockstep.toml:2", "rehearsal.max_backup_age: 'x' is no duration"),
        ('[rehearsal]\nmax_rewrite = "1 giga"\n', "lockstep.toml:2", "rehearsal.max_rewrite: '1 giga' is no size"),
        ("[rehearsal]\nrequire_proven_revert = 1\n", "lockstep.toml:2", "require_proven_revert: Expected `bool`"),
        ('[rehearsal]\nserver = "host"\n', "lockstep.toml:2", "is no postgresql:// URL"),
        ('[rehearsal]\nserver = "postgresql://u:pa55@h/d"\n', "lockstep.toml:2", "holds a password"),
        (
            '[environments.dev]\nmax_rewrite = "much"\n',
            "lockstep.toml:2",
            "environments.dev.max_rewrite: 'much' is no size",
        ),
        (
            '[environments.a]\nafter = ["b"]\nprotected = false\n[environments.b]\nafter = ["a"]\nprotected = false\n',
            "lockstep.toml:",
            "in a circle",
        ),
        (
            '[environments.a]\nafter = ["nowhere"]\nprotected = false\n',
            "lockstep.toml:2",
            "'nowhere', which is no environment",
        ),
        ('[environments.prod]\nurl = "${P}"\n', "lockstep.toml:1", "is protected, but there is no [backup]"),
        ("[project\n", "lockstep.toml", "at line 1"),
        ('[backup]\nprefix = "x"\n', "lockstep.toml", "bucket|prefix"),
    ],
)
def test_a_mistake_is_an_error_with_its_line(text: str, place: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, text), {})
    assert place in str(caught.value)
    assert any(part in str(caught.value) for part in problem.split("|"))
    assert "pa55" not in str(caught.value)


def test_environments_come_in_promotion_order(tmp_path: Path) -> None:
    text = (
        BACKUP
        + '[environments.prod]\nafter = ["staging"]\n[environments.staging]\nafter = ["dev"]\n[environments.dev]\n'
    )
    settings = load_settings(write(tmp_path, text), {})
    assert list(settings.environments) == ["dev", "staging", "prod"]
    assert [e.protected for e in settings.environments.values()] == [False, True, True]
    assert [e.name for e in settings.chosen(["prod", "dev"])] == ["dev", "prod"]
    with pytest.raises(UsageError, match="no environment 'pord'") as caught:
        settings.chosen(["pord"])
    assert caught.value.hint == "did you mean 'prod'?"


def test_every_value_has_an_origin_and_no_secret_is_shown(tmp_path: Path) -> None:
    text = BACKUP + '[environments.prod]\nurl = "${PROD}"\nsettings = { key = "${KEY}", other = "${UNSET}" }\n'
    (tmp_path / ".env").write_text("KEY=hidden-key\n")
    settings = load_settings(write(tmp_path, text), {"PROD": "postgresql://u:hidden@pw@db.example:5433/app"})
    shown = {v.key: (v.shown, v.origin) for v in settings.values()}
    assert shown["environments.prod.url"] == ("db.example:5433/app", "lockstep.toml:4 ← $PROD (environment)")
    assert shown["environments.prod.settings.key"] == ("(10 characters)", "lockstep.toml:5 ← $KEY (.env)")
    assert shown["environments.prod.settings.other"][0] == "($UNSET is not set)"
    assert shown["environments.prod.protected"] == ("true", "default")
    assert shown["project.migrations"] == ("migrations", "default")
    assert shown["environments.prod.on_drift"] == ("stop", "default")
    assert shown["environments.prod.max_blocking"] == ("none (2s while it waits for a lock itself)", "default")
    assert shown["environments.prod.role"] == ("none", "default")
    assert shown["privacy.excerpts"] == ("true", "default")
    assert not [key for key, (value, _) in shown.items() if value in ("", "True", "False")]
    assert "hidden" not in str(shown) + repr(settings)


def test_a_password_with_special_characters_survives_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('A=postgresql://u:p@s#s$x@h/d\nB="quoted"\n')
    settings = load_settings(write(tmp_path, '[environments.dev]\nurl = "${A}"\n'), {})
    url = settings.url(settings.environment("dev"))
    assert url is not None
    assert url.reveal() == "postgresql://u:p@s#s$x@h/d"


def test_a_secret_shows_nothing_by_accident() -> None:
    assert "x" not in f"{Secret('x')} {Secret('x')!r}".replace("Secret", "")


def test_credentials_in_another_address_are_not_shown(tmp_path: Path) -> None:
    text = '[backup]\nbucket = "s3://b/p"\nendpoint_url = "${S3}"\n'
    settings = load_settings(write(tmp_path, text), {"S3": "https://me:hidden@store.example:9000"})
    shown = {v.key: v.shown for v in settings.values()}
    assert shown["backup.endpoint_url"] == "https://***@store.example:9000"


@pytest.mark.parametrize(
    ("url", "variable", "value"),
    [
        ("postgresql://u@localhost/d?sslmode=disable", "PGHOSTADDR", "203.0.113.7"),
        ("postgresql:///d?sslmode=disable", "PGHOST", "db.example"),
        ("postgresql:///d?sslmode=disable", "PGSERVICE", "prod"),
        ("postgresql://u@db.example/d?sslmode=disable", "PGUSER", "u"),
    ],
)
def test_tls_cannot_be_turned_off_on_the_way_to_another_machine(
    url: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match="sslmode=disable would send the password"):
        conninfo(Target(environment="prod", address=parse_address(url)), run_id="r")


@pytest.mark.parametrize("name", ["lockstep.toml", ".env"])
def test_a_configuration_that_is_not_utf_8_is_said_with_its_line(name: str, tmp_path: Path) -> None:
    write(tmp_path, "[environments.dev]\n")
    (tmp_path / name).write_bytes(b"# one\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=f"{name}:2: is not UTF-8") as caught:
        load_settings(tmp_path, {})
    assert caught.value.hint == "save the file as UTF-8"


def test_a_byte_order_mark_before_the_configuration_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfA=postgresql://u@h/d\r\nB=x\r\n")
    (tmp_path / "lockstep.toml").write_bytes(b'\xef\xbb\xbf[environments.dev]\r\nurl = "${A}"\r\n')
    settings = load_settings(tmp_path, {})
    url = settings.url(settings.environment("dev"))
    assert url is not None and url.reveal() == "postgresql://u@h/d"


def test_the_rehearsal_server_is_shown_without_its_password(tmp_path: Path) -> None:
    text = '[rehearsal]\nserver = "${CLONES}"\n'
    settings = load_settings(write(tmp_path, text), {"CLONES": "postgresql://u:hidden@clones.example:5433/postgres"})
    shown = {v.key: (v.shown, v.origin) for v in settings.values()}
    assert shown["rehearsal.server"] == ("clones.example:5433/postgres", "lockstep.toml:2 ← $CLONES (environment)")
    assert shown["rehearsal.max_blocking"] == ("2s", "default")
    server = settings.rehearsal_server()
    assert server is not None and "hidden" in server.reveal() and "hidden" not in repr(settings)


def test_budgets_are_the_environments_own_before_the_projects(tmp_path: Path) -> None:
    text = """
[rehearsal]
max_blocking = "500ms"
max_rewrite = "10MB"
require_proven_revert = true
[environments.dev]
[environments.big]
max_blocking = "5s"
max_rewrite = "2GB"
"""
    settings = load_settings(write(tmp_path, text), {})
    assert budgets_of(settings, settings.environment("dev")) == Budgets(
        max_blocking_ms=500, max_rewrite=10_000_000, needs_proven_revert=True
    )
    assert budgets_of(settings, settings.environment("big")) == Budgets(
        max_blocking_ms=5_000, max_rewrite=2_000_000_000, needs_proven_revert=True
    )
    bare = load_settings(write(tmp_path, "[environments.dev]\n"), {})
    assert budgets_of(bare, bare.environment("dev")) == Budgets()
