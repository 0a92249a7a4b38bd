"""Flows and tasks: are this project's own those that came with the installed version. It reads files, and asks nobody."""

from __future__ import annotations

from pathlib import Path

from lockstep import __version__
from lockstep.core.checkup import not_checked
from lockstep.core.setup_rules import flows
from lockstep.service.checkup.findings import Findings
from lockstep.service.creating import FLOWS_VERSION, shipped_flows


def check_flows(findings: Findings, folder: Path) -> None:
    """Compare flows/ and tasks/ with what the installed version lays out. A project may change its own."""
    shipped = shipped_flows()
    own = {name: _text(folder / name) for name in shipped}
    if all(text is None for text in own.values()):
        findings.add(not_checked("flows", "this project has none: sync needs none, deploy does"))
        return
    mark = _text(folder / FLOWS_VERSION)
    findings.add(
        flows(
            tuple(name for name, text in sorted(own.items()) if text != shipped[name]),
            laid_out_by=mark.decode(errors="replace").strip() if mark else None,
            installed=__version__,
        )
    )


def _text(file: Path) -> bytes | None:
    try:
        return file.read_bytes().replace(b"\r\n", b"\n")
    except OSError:
        return None
