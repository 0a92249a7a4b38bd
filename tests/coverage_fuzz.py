"""A fuzzer that is led by what it covers (atheris), over the readers that others' bytes reach first: `make fuzz`.

It ends the process at the first exception that is no refusal, and says with which bytes. LOCKSTEP_FUZZ_SECONDS: how long.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import atheris  # of the group `fuzz`, which is installed when it is wanted

with atheris.instrument_imports(include=["lockstep"]):
    from lockstep.core.address import parse_address
    from lockstep.core.checksum import content_digest, decode
    from lockstep.core.directives import misplaced, parse_directives
    from lockstep.core.filename import parse_file_name, why_not
    from lockstep.core.markdown import block, code, text
    from lockstep.core.migration import SqlFile
    from lockstep.errors import LockstepError
    from lockstep.storage import contents, manifest, rehearsals, verification


def one(data: bytes) -> None:
    """What every reader makes of some bytes."""
    kind, raw = (data[0] % 4, data[1:]) if data else (0, b"")
    try:
        if kind == 0:
            _file(decode(raw, "001-a.sql"))
        elif kind == 1:
            for module in (manifest, contents, rehearsals, verification):
                _refusing(module.decode, raw)
        else:
            words = raw.decode("utf-8", "surrogateescape")
            _refusing(parse_address, words)
            if parse_file_name(words) is None:
                why_not(words)
            for made in (text(words), code(words)):
                assert "\n" not in made
            block(words)
    except LockstepError:
        return


def _file(words: str) -> None:
    misplaced(words)
    content_digest(words)
    SqlFile(name="001-a.sql", text=words, checksum="", directives=parse_directives(words, "001-a.sql")).check()


def _refusing(read: Any, given: Any) -> None:
    try:
        read(given)
    except ValueError:
        return


if __name__ == "__main__":
    seconds = os.environ.get("LOCKSTEP_FUZZ_SECONDS", "120")
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            "-max_len=4096",
            "-timeout=20",
            "-rss_limit_mb=2048",
            *sys.argv[1:],
        ],
        one,
    )
    atheris.Fuzz()
