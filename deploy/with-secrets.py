"""Starts a command with what secret files hold as variables: files named *.env below /run/secrets, as NAME=value lines.

So no secret is in an image, in a compose file, or in what `docker inspect` shows. A value stands as it is: nothing in it
is replaced. LOCKSTEP_SECRETS names another folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dotenv import dotenv_values


def main(command: list[str]) -> None:
    if not command:
        sys.exit("with-secrets: which command?")
    for file in sorted(Path(os.environ.get("LOCKSTEP_SECRETS") or "/run/secrets").glob("*.env")):
        for name, value in dotenv_values(file, interpolate=False).items():
            os.environ[name] = value or ""
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
