"""The tutorial, from its first to its last line, as a reader has it: the wheel alone, and a Prefect server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.prefectserver import PrefectServer
from demo.s3server import S3Server
from tests.played import WITH_PREFECT, differences


@pytest.mark.parametrize("page", WITH_PREFECT)
def test_the_commands_of_a_page_print_what_it_says(
    page: str,
    tmp_path: Path,
    installed: Path,
    pg_bin: Path,
    s3: S3Server,
    prefect_server: PrefectServer,
    new_database: Callable[[], str],
) -> None:
    programs = [installed, Path(sys.executable).parent, pg_bin]
    urls = [new_database() for _ in range(3)]
    wrong = differences(page, tmp_path, programs, urls, s3, prefect_server.environment)
    assert not wrong, "\n\n".join(wrong)
