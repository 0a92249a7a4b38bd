"""The migrations folder at a git revision, read from git's own objects. The only caller of git; it changes nothing.

Blobs are read as they are stored, so what a checkout does to line ends does not count. Git runs without a shell, and
without the variables by which a hook points it at another repository.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lockstep.core.branching import NumberedFile, Snapshot, numbered_file
from lockstep.core.filename import Part, parse_file_name
from lockstep.errors import UsageError
from lockstep.service.project import is_looked_at
from lockstep.service.redaction import redact

#: What git sets for its hooks: relative to a folder that is not the one we call it in.
_LOCAL = frozenset({
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE",
    "GIT_IMPLICIT_WORK_TREE", "GIT_INTERNAL_SUPER_PREFIX",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Revisions:
    """The base branch and where this branch left it."""

    commit: str  # of the base's tip
    merge_base: str | None  # None: nothing is committed here yet
    base: Snapshot
    ancestor: Snapshot


def read_revisions(folder: Path, revision: str) -> Revisions:
    """Return the numbered files of `folder` at a revision, and at its merge base with what is checked out.

    Raises UsageError: no git, no work tree, an unknown revision, no common commit (a shallow clone has none).
    """
    if not revision or revision.startswith("-"):
        raise UsageError(f"'{revision}' is no git revision", hint="--base origin/main")
    git = _Git(folder)
    shallow = git.find_work_tree()
    tip = git.commit(revision)
    if tip is None:
        raise _unknown(git, revision, shallow=shallow)
    head = git.commit("HEAD")
    merge_base = git.merge_base(head, tip) if head else None
    if head and merge_base is None:
        raise _unrelated(revision, shallow=shallow)
    listed = {commit: git.files(commit) for commit in {tip, merge_base} if commit}
    texts = git.read({blob for blobs in listed.values() for blob in blobs if blob.wanted})
    snapshots = {commit: _snapshot(blobs, texts) for commit, blobs in listed.items()}
    return Revisions(
        commit=tip,
        merge_base=merge_base,
        base=snapshots[tip],
        ancestor=snapshots[merge_base] if merge_base else Snapshot(),
    )


def path_from_root(folder: Path, project: Path) -> str:
    """Return where `folder` is from the repository's root, or from the project's folder where there is none.

    With forward slashes; "" is the root itself. Runs no git.
    """
    real = folder.resolve()
    root = next((f for f in (real, *real.parents) if (f / ".git").exists()), project.resolve())
    path = os.path.relpath(real, root).replace(os.sep, "/")
    return "" if path == "." else path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blob:
    """One entry of a listed folder."""

    name: str
    request: bytes  # what `git cat-file` is asked for

    @property
    def wanted(self) -> bool:
        """Whether the comparison needs its text: downs, verify scripts and names that are none of ours are not read."""
        number = parse_file_name(self.name)
        return number is not None and number.part is Part.UP and b"\n" not in self.request


def _snapshot(blobs: list[_Blob], texts: dict[bytes, bytes | None]) -> Snapshot:
    files: list[NumberedFile] = []
    for blob in blobs:
        if file := numbered_file(blob.name, texts.get(blob.request)):
            files.append(file)
    return Snapshot(files=tuple(files))


class _Git:
    """Calls git in one folder, the migrations folder: what git lists and resolves is relative to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if name not in _LOCAL}
        self._environment = {**kept, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
        self._prefix = b""  # the folder from the repository's root, with a slash at the end

    def find_work_tree(self) -> bool:
        """Find the repository; return whether its history is cut off. Raises UsageError when there is none."""
        done = self._run("rev-parse", "--is-inside-work-tree", "--is-shallow-repository", "--show-prefix")
        inside, _, rest = done.stdout.partition(b"\n")
        shallow, _, prefix = rest.partition(b"\n")
        if done.returncode == 0 and inside == b"true":
            self._prefix = prefix.removesuffix(b"\n")
            return shallow == b"true"
        real = self.folder.resolve()
        if done.returncode and any((f / ".git").exists() for f in (real, *real.parents)):
            raise self._failed("rev-parse", done)  # there is one, and git does not want it: it says why
        raise UsageError(
            "--base compares with a git branch, and the migrations folder is in no git work tree",
            hint="git clone the project, or leave --base away",
        )

    def commit(self, revision: str) -> str | None:
        done = self._run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        return done.stdout.decode().strip() if done.returncode == 0 else None

    def merge_base(self, one: str, other: str) -> str | None:
        done = self._run("merge-base", one, other)
        if done.returncode not in (0, 1):
            raise self._failed("merge-base", done)
        return done.stdout.decode().strip() or None

    def remotes(self) -> list[str]:
        return self._run("remote").stdout.decode(errors="replace").split()

    def files(self, commit: str) -> list[_Blob]:
        """The files of the folder in a commit; none where the commit has no such folder."""
        done = self._run("ls-tree", "-z", commit)
        if done.returncode:
            raise self._failed("ls-tree", done)
        found = []
        for row in done.stdout.split(b"\0")[:-1]:
            meta, _, raw_name = row.partition(b"\t")
            mode, kind, digest = meta.split()
            name = os.fsdecode(raw_name)
            if kind != b"blob" or not is_looked_at(name):
                continue
            is_link = mode == b"120000"  # followed within the commit, as a checkout would be
            request = commit.encode() + b":" + self._prefix + raw_name if is_link else digest
            found.append(_Blob(name=name, request=request))
        return found

    def read(self, blobs: set[_Blob]) -> dict[bytes, bytes | None]:
        """Contents by request, through one process. None: a link that leads nowhere, or out of the repository."""
        requests = sorted({blob.request for blob in blobs})
        if not requests:
            return {}
        done = self._run("cat-file", "--batch", "--follow-symlinks", input=b"\n".join(requests) + b"\n")
        if done.returncode:
            raise self._failed("cat-file", done)
        found: dict[bytes, bytes | None] = {}
        at = 0
        for request in requests:
            end = done.stdout.index(b"\n", at)
            words = done.stdout[at:end].rsplit(b" ", 2)
            at = end + 1
            if words[-1] in (b"missing", b"ambiguous"):
                found[request] = None
                continue
            size = int(words[-1])
            found[request] = done.stdout[at : at + size] if words[-2] == b"blob" else None
            at += size + 1
        return found

    def _run(self, *words: str, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                ["git", *words],
                cwd=self.folder,
                env=self._environment,
                capture_output=True,
                check=False,
                input=input or b"",
            )
        except FileNotFoundError:
            raise UsageError(
                "--base needs git, which is not installed",
                hint="install it (Debian: apt-get install git), or leave --base away",
            ) from None

    def _failed(self, command: str, done: subprocess.CompletedProcess[bytes]) -> UsageError:
        said = redact(done.stderr.decode(errors="replace").strip()[:1000], ())
        return UsageError(f"git {command} failed (exit {done.returncode}): {said}", hint="git says above what it needs")


#: A branch's name, as far as it can stand in a command without quotes; no commit's digest.
_BRANCH = re.compile(r"(?!HEAD\b)(?![0-9a-f]{7,64}$)(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]*")


def _unknown(git: _Git, revision: str, *, shallow: bool) -> UsageError:
    hint = "git log --oneline --all shows what there is"
    if _BRANCH.fullmatch(revision):
        if git.commit(f"refs/remotes/origin/{revision}"):
            return UsageError(f"there is no revision '{revision}' here", hint=f"--base origin/{revision}")
        remote, _, branch = revision.partition("/")
        if remote not in {"origin", *git.remotes()} or not branch:
            remote, branch = "origin", revision
        hint = f"fetch it first: git fetch {remote} {branch}:refs/remotes/{remote}/{branch}"
    if shallow:
        hint += "; this clone is shallow: git fetch --unshallow (in GitHub Actions: fetch-depth: 0)"
    return UsageError(f"there is no revision '{revision}' here", hint=hint)


def _unrelated(revision: str, *, shallow: bool) -> UsageError:
    if shallow:
        return UsageError(
            f"this clone is shallow: where this branch left {revision} is not in it",
            hint="git fetch --unshallow; in GitHub Actions: fetch-depth: 0 at actions/checkout; in GitLab: GIT_DEPTH: 0",
        )
    return UsageError(
        f"this branch and {revision} have no commit in common", hint="name the branch that it will be merged into"
    )
