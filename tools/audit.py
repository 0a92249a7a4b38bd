"""`make audit`: known vulnerabilities of what the locks pin, by pip-audit. What could not be looked up is no pass.

pip-audit ends well when it could not look up a single package, so its answer is counted here. Exit codes: 0 all were
looked up and none is known to be vulnerable; 1 some are; 2 some could not be looked up, or pip-audit itself failed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def audit(program: str, lock: Path) -> int:
    """Look up one lock, say what came of it, and return the exit code."""
    words = [program, "--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json", "-r", str(lock)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(f"{lock}: NOT AUDITED: pip-audit failed: {last[:300]}", file=sys.stderr)
        return 2
    vulnerable = [one for one in found if one.get("vulns")]
    unknown = [one for one in found if "skip_reason" in one]
    for one in vulnerable:
        fixes = ", ".join(sorted({version for known in one["vulns"] for version in known.get("fix_versions", ())}))
        names = ", ".join(known["id"] for known in one["vulns"])
        print(f"{lock}: {one['name']} {one['version']}: {names}" + (f"; mended in {fixes}" if fixes else ""))
    if unknown:
        print(
            f"{lock}: NOT AUDITED: {len(unknown)} of {len(found)} packages could not be looked up; is the advisory data "
            f"out of reach from here? ({unknown[0]['skip_reason'][:200]})",
            file=sys.stderr,
        )
    if vulnerable:
        return 1
    if unknown or not found:
        return 2
    print(f"{lock}: {len(found)} packages, none is known to be vulnerable")
    return 0


if __name__ == "__main__":
    sys.exit(max(audit(sys.argv[1], Path(name)) for name in sys.argv[2:]))
