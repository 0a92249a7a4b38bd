"""The store of the backups: each right that they need, tried on a probe object; encryption; room to restore the newest.

It asks the store through storage.probe and says what the answers mean.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing

from lockstep.config import Environment, Settings
from lockstep.core.checkup import Check, not_checked, ok, problem, warning
from lockstep.core.counting import counted
from lockstep.core.setup_rules import clock, endpoint, room, secret_key_file
from lockstep.core.size import format_bytes
from lockstep.errors import BackupDamaged, BucketError, ConfigError
from lockstep.service.checkup.findings import Findings, one_line, problem_of
from lockstep.service.store import bucket_settings, identity, identity_file, keep, recipients, unreadable_backups
from lockstep.storage.backups import Backups
from lockstep.storage.bucket import Bucket, BucketSettings
from lockstep.storage.encryption import Identity, encrypt
from lockstep.storage.probe import PATIENCE, Answer, ProbeReport, Request, probe

#: What a backup, a restore or `backups list` cannot do without, and how its line is called.
_NEEDED = {
    Request.LIST: "list",
    Request.PUT: "put",
    Request.TAGS: "tags",
    Request.LOCK: "object lock",
    Request.KEY: "KMS key",
    Request.GET: "get",
    Request.CONDITION: "conditional put",
    Request.UPLOAD: "multipart upload",
    Request.ABORT: "abort of an upload",
}
#: What only `backups prune` does. A machine that deploys does better without.
_PRUNE = {Request.DELETE: "delete", Request.UPLOADS: "list of uploads"}

_TRIED = (Request.LIST, Request.PUT, Request.GET, Request.CONDITION, Request.UPLOAD, Request.ABORT)

_UNKNOWN = ("bucket", *(_NEEDED[one] for one in _TRIED), "versioning", "disk")


def check_backups(findings: Findings, settings: Settings, environments: Sequence[Environment]) -> None:
    """Check the store and the keys of the backups. A probe object is stored and removed again; nothing else changes."""
    if settings.backup is None:
        findings.add(not_checked("bucket", "there is no [backup]"))
        return
    with findings.checking("encryption"):
        _encryption(findings, settings)
    found: BucketSettings | None = None
    with findings.checking("bucket"):
        try:
            keep(settings)
            found = bucket_settings(settings)
        except ConfigError as error:
            if _unset(settings):  # said under the project, by the variable's name
                findings.skip(("bucket",), "its settings need a variable that is not set")
            else:
                findings.add(problem_of("bucket", error))
    if found is None:
        findings.skip(_UNKNOWN[1:], "the bucket is not known")
        return
    with findings.checking("bucket"):
        report = probe(found)
        _answers(findings, found, report)
        if report.done(Request.LIST) and report.done(Request.GET):
            with findings.checking("disk"):
                _disk(findings, found, environments)
        else:
            findings.add(not_checked("disk", "the backups cannot be read"))


def _unset(settings: Settings) -> bool:
    backup = settings.backup
    assert backup is not None
    for text in (backup.bucket, backup.endpoint_url or "", backup.kms_key or "", *backup.tags.values()):
        try:
            settings.resolved(text, "backup")
        except ConfigError:
            return True
    return False


# -- the store ---------------------------------------------------------------------------------------------------------


def _answers(findings: Findings, bucket: BucketSettings, report: ProbeReport) -> None:
    first = report.answers[0].error
    if first is not None and not first.denied:
        findings.add(problem("bucket", first.cause, one_line(first.hint or "lockstep config"), first.exit_code))
        findings.skip(_UNKNOWN[1:-1], "the bucket does not answer as it should")
        if report.clock is not None:
            findings.add(clock(report.clock, "the store's"))
        return
    where = bucket.endpoint_url.rsplit("@", 1)[-1].removeprefix("https://") if bucket.endpoint_url else "AWS"
    findings.add(ok("bucket", f"s3://{bucket.name}/{bucket.prefix} at {where}"))
    if report.clock is not None:
        findings.add(clock(report.clock, "the store's"))
    if (travels := endpoint(bucket.endpoint_url)) is not None:
        findings.add(travels)
    findings.add(*_rights(bucket, report))
    _information(findings, bucket, report)


def _rights(bucket: BucketSettings, report: ProbeReport) -> list[Check]:
    """One line for all that works; one for each that does not."""
    found: list[Check] = []
    good = []
    for request, name in (_NEEDED | _PRUNE).items():
        answer = report.answer(request)
        if answer is None:
            if request in _TRIED:
                found.append(not_checked(name, "what it needs failed"))
        elif answer.error is None:
            good.append(name)
        else:
            found.append(_refused(bucket, request, name, answer))
    left = [text for text in report.left if report.done(Request.DELETE)]
    rights = [ok("rights", ", ".join(good))] if good else []
    return [*rights, *found, *(ok("probe", f"removed; the bucket keeps {text}") for text in left)]


def _refused(bucket: BucketSettings, request: Request, name: str, answer: Answer) -> Check:
    error = answer.error
    assert error is not None
    if not error.denied:
        if request in _PRUNE:
            return warning(name, error.cause, error.hint)
        return problem(name, error.cause, one_line(error.hint) if error.hint else None, error.exit_code)
    right = request.value.split(",")[0]
    on = f"s3://{bucket.name}" if request in {Request.LIST, Request.UPLOADS} else f"s3://{bucket.name}/{bucket.prefix}*"
    if request is Request.DELETE:
        return warning(
            name,
            f"{right} is missing, which only backups prune needs: the probe stays",
            f"none where another machine prunes; else grant {right} on {on}",
        )
    if request is Request.UPLOADS:
        return warning(
            name,
            f"{right} is missing, which only backups prune needs",
            f"none where another machine prunes; else grant {right} on {on}",
        )
    if request is Request.KEY:
        on = bucket.kms_key or "the account's key"
    return problem(name, f"{right} is missing", f"grant {right} on {on}", error.exit_code)


def _information(findings: Findings, bucket: BucketSettings, report: ProbeReport) -> None:
    stored = report.answer(Request.PUT)
    if bucket.server_side_encryption and stored is not None and stored.error is None:
        if stored.found in {"", bucket.server_side_encryption}:
            findings.add(ok("encryption at rest", f"{bucket.server_side_encryption}, accepted by the store"))
        else:
            text = f"{bucket.server_side_encryption} was asked for, and the store used {stored.found}"
            findings.add(warning("encryption at rest", text, "look at the bucket's own encryption settings"))
    versions, lock = report.answer(Request.VERSIONS), report.answer(Request.LOCKS)
    said = []
    for what, answer in (("versioning", versions), ("object lock", lock)):
        if answer is None or answer.error is not None:
            said.append(f"{what} not known")
        else:
            said.append(
                f"{what} {answer.found.lower() if what == 'versioning' and answer.found else answer.found or 'off'}"
            )
    findings.add(ok("versioning", ", ".join(said)))


# -- keys --------------------------------------------------------------------------------------------------------------


def _encryption(findings: Findings, settings: Settings) -> None:
    keys = recipients(settings)
    if not keys:
        findings.add(ok("encryption", "backups are not encrypted (no encrypt_to)"))
        return
    said = f"to {counted(len(keys), 'public key')}"
    if settings.rehearsal.identity is None:
        findings.add(ok("encryption", f"{said}; this machine has no secret key, and cannot restore them"))
        return
    if (trouble := unreadable_backups(settings)) is not None:
        findings.add(
            warning(
                "encryption",
                one_line(trouble),
                "give it a key that fits, or leave it as it is where nothing is restored",
            )
        )
        return
    file = identity_file(settings)
    if file is not None and (open_to_all := secret_key_file(file.stat().st_mode)) is not None:
        findings.add(open_to_all)
    own = identity(settings)
    assert own is not None  # or there was trouble
    _round_trip(own, keys)
    findings.add(ok("encryption", f"{said}; the secret key of this machine decrypts it (tried)"))


def _round_trip(own: Identity, keys: Sequence[str]) -> None:
    plain = b"lockstep doctor"
    parts: list[bytes] = []
    encrypt([plain], parts.append, keys)
    with closing(own.decrypted(parts, what="what was just encrypted")) as chunks:
        if b"".join(chunks) != plain:
            raise BackupDamaged("did not come back as it was", what="what was just encrypted")


# -- room --------------------------------------------------------------------------------------------------------------


def _disk(findings: Findings, bucket: BucketSettings, environments: Sequence[Environment]) -> None:
    """Compare the disk with the largest of the newest backups, as it lay on its server."""
    largest: tuple[int, str] | None = None
    with Bucket(bucket, patience=PATIENCE) as opened:
        backups = Backups(opened)
        for environment in environments:
            try:
                size = _restored_size(backups, environment.name)
            except BucketError:
                continue
            if size is not None and (largest is None or size > largest[0]):
                largest = size, environment.name
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    needed = largest[0] if largest else None
    shown = format_bytes(free), format_bytes(needed or 0)
    findings.add(room(free, needed, folder=folder, what=largest[1] if largest else "", shown=shown))


def _restored_size(backups: Backups, environment: str) -> int | None:
    keys = [folder.path for folder in backups.folders(environment) if folder.manifest_key]
    if not keys:
        return None
    manifest = backups.read(environment, keys[-1].rstrip("/").rsplit("/", 1)[-1])
    if manifest is None:
        return None
    return sum(schema.size for schema in manifest.schema_sizes) or manifest.size
