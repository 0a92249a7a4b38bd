"""This machine, whatever the project: zone data, whom a throw-away server would run as, room for temporary files."""

from __future__ import annotations

import platform
import shutil
import tempfile
from pathlib import Path

from lockstep import __version__
from lockstep.core.checkup import ok, problem, warning
from lockstep.core.size import format_bytes
from lockstep.errors import ExitCode, ServerStartError
from lockstep.service.checkup.findings import Findings

ZONES = Path("/usr/share/zoneinfo")  # where the server programs of the wheels look, and Debian's


def check_machine(findings: Findings) -> None:
    """Check what every project needs of this machine. Reads only."""
    with findings.checking("versions"):
        findings.add(ok("versions", f"Lockstep {__version__}, Python {platform.python_version()}"))
    with findings.checking("zone data"):
        _zones(findings)
    with findings.checking("throw-away server"):
        _throwaway(findings)
    with findings.checking("temporary folder"):
        _temporary(findings)


def _zones(findings: Findings) -> None:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo("Europe/Berlin")
    except (ZoneInfoNotFoundError, OSError):
        python = False
    else:
        python = True
    if ZONES.is_dir() and python:
        findings.add(ok("zone data", f"{ZONES}, and Python finds it"))
        return
    lacks = f"{ZONES} is not there: no throw-away server starts" if not ZONES.is_dir() else "Python finds none"
    findings.add(warning("zone data", lacks, "apt-get install tzdata"))


def _throwaway(findings: Findings) -> None:
    from lockstep.postgres.unprivileged import find_way

    try:
        way = find_way(offline=True)
    except ServerStartError as error:
        text = f"cannot run here, so no backup can be verified by restoring it: {error.message.splitlines()[-1]}"
        findings.add(warning("throw-away server", text, "run Lockstep as an ordinary user"))
        return
    if way.offline:
        findings.add(ok("throw-away server", f"would run {way.words}"))
        return
    text = f"would run {way.words}: only its socket's folder keeps others out"
    findings.add(
        warning(
            "throw-away server",
            text,
            "allow user namespaces (sysctl user.max_user_namespaces, or the container's profile)",
        )
    )


def _temporary(findings: Findings) -> None:
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:
        text = "no folder for temporary files can be written to"
        findings.add(problem("temporary folder", text, "set TMPDIR to one that can", ExitCode.USAGE))
        return
    findings.add(ok("temporary folder", f"{folder}, {format_bytes(shutil.disk_usage(folder).free)} free"))
