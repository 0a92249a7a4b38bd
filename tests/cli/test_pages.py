"""The commands of the pages in tests/played.py run as they are printed, on a real server and a real S3 store.

README and guide each time; what the how-tos show is tested elsewhere too, so that their words are looked at by
`make test-slow`, but for one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.s3server import S3Server
from tests.played import PAGES, differences


@pytest.fixture(scope="session")
def store() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


#: The cheapest of the how-tos.
ALWAYS = "docs/how-to/shell.md"


def _marked(page: str) -> object:
    return pytest.param(page, marks=pytest.mark.slow) if "how-to/" in page and page != ALWAYS else page


@pytest.mark.parametrize("page", [_marked(page) for page in PAGES])
def test_the_commands_of_a_page_print_what_it_says(
    page: str, tmp_path: Path, installed: Path, pg_bin: Path, store: S3Server, new_database: Callable[[], str]
) -> None:
    programs = [installed, Path(sys.executable).parent, pg_bin]
    wrong = differences(page, tmp_path, programs, [new_database() for _ in range(3)], store)
    assert not wrong, "\n\n".join(wrong)
