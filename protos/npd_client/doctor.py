"""Says why a connection to the mesh does not come about, and what to do: from the own files to the server's view.

Looks at one thing after another. What failed spares only what depends on it, so that two faults are found in one go.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from npd.issuer.v1 import door_pb2
from npd_client.credentials import (
    AUTHORITIES_FILE,
    CERTIFICATE_FILE,
    CredentialFiles,
    CredentialsError,
    DirectoryPath,
    certificates_of,
    identity_of,
    require_chain,
    require_client_usage,
    require_key,
    require_private,
    require_valid_at,
)
from npd_client.diagnosis import Check, Diagnosis, Result, Said, after, failed, judged, skipped, sound
from npd_client.door import open_door, server_time
from npd_client.errors import Refusal
from npd_client.probing import Place, check_call, check_name, check_reachability, check_server_certificate

CLOCK_WARNING, CLOCK_FAILURE = timedelta(seconds=60), timedelta(minutes=5)
"""Certificates are dated back by five minutes: a clock that is slower takes a new one for one of tomorrow."""

_OWN = ("key_permissions", "pem", "key_match", "usage", "validity", "chain")


def diagnose(target: str, directory: DirectoryPath, *, door: str = "", now: datetime | None = None) -> Diagnosis:
    """Look at everything on the way to a room.

    1. The own files: there, private, whole, of one issue, for TLS clients, valid, leading to ca.crt.
    2. This computer's clock and the mesh's view of the certificate, if the address of the `door` is known.
    3. The address: its name, TCP, the server's certificate under the own ca.crt.
    4. A call with the own certificate.

    Raises TargetMalformed.
    """
    place, door_place = Place.of(target), Place.of(door) if door else None
    files, checks = _read(directory)
    checks += _own(files, now or datetime.now(UTC)) if files else [after(name, "files") for name in _OWN]
    roots = _roots_of(files)
    if files is None or any(check.name == "pem" and check.result is Result.FAILED for check in checks):
        cause = "pem" if files else "files"
        clock, view = after("clock", cause), after("server_view", cause)
    else:
        clock, view = _from_door(door, files) if door_place else _without_door()
    checks += [clock, *_address(place, roots)]
    checks.append(_call(target, directory, checks))
    return Diagnosis((*checks, view))


def _read(directory: DirectoryPath) -> tuple[CredentialFiles | None, list[Check]]:
    read: list[CredentialFiles] = []
    said = Said(f"The three files are in {directory}.", f"Đủ ba tệp trong {directory}.")
    check = judged("files", lambda: read.append(CredentialFiles.read(directory)), said)
    return (read[0] if read else None), [check]


def _own(files: CredentialFiles, now: datetime) -> list[Check]:
    """Key permissions to chain, by the very checks that a channel makes before it dials."""
    path = files.directory / CERTIFICATE_FILE
    private = judged(
        "key_permissions",
        lambda: require_private(files),
        Said("Only its owner reads the key.", "Chỉ chủ sở hữu đọc được khóa."),
    )
    whole = judged("pem", lambda: _parsed(files), Said("The certificates are whole.", "Các chứng thư đầy đủ."))
    if whole.result is Result.FAILED:
        return [private, whole, *(after(name, "pem") for name in _OWN[2:])]
    (leaf, *presented), anchors = _parsed(files)
    return [
        private,
        whole,
        judged(
            "key_match",
            lambda: require_key(files, leaf, presented),
            Said("The key is that of the certificate.", "Khóa đúng là của chứng thư."),
        ),
        judged(
            "usage",
            lambda: require_client_usage(path, leaf),
            Said(
                f"It is for TLS clients, of {identity_of(leaf)}.", f"Dùng cho máy khách TLS, của {identity_of(leaf)}."
            ),
        ),
        _validity(path, leaf, now),
        judged(
            "chain",
            lambda: require_chain(files.directory, leaf, presented, anchors, now),
            Said("It leads to a root of your ca.crt.", "Chứng thư dẫn tới gốc trong ca.crt."),
        ),
    ]


def _validity(path: Path, leaf: x509.Certificate, now: datetime) -> Check:
    end, life = leaf.not_valid_after_utc, leaf.not_valid_after_utc - leaf.not_valid_before_utc
    left = end - now
    text = f"{end:%Y-%m-%d %H:%M} UTC"
    fine = Said(f"It is valid until {text}.", f"Có hiệu lực đến {text}.")
    check = judged("validity", lambda: require_valid_at(path, leaf, now), fine)
    if check.result is Result.OK and left < life / 3:
        return Check(
            "validity",
            Result.WARNING,
            Said(
                f"It ends at {text}: less than a third of its life is left.",
                f"Hết hạn lúc {text}: còn dưới một phần ba.",
            ),
            Said("Renew it: npd-client renew.", "Hãy gia hạn: npd-client renew."),
        )
    return check


def _without_door() -> tuple[Check, Check]:
    told = Said("Not looked at: name the issuer's door (--door).", "Chưa kiểm tra: hãy cho biết địa chỉ door (--door).")
    return skipped("clock", *told), skipped("server_view", *told)


def _from_door(door: str, files: CredentialFiles) -> tuple[Check, Check]:
    try:
        with open_door(door, files.root_certificates) as opened:
            begun = datetime.now(UTC)
            answer = opened.diagnose(files.certificate_chain)
            now = begun + (datetime.now(UTC) - begun) / 2
    except Refusal as refusal:
        found = Said(f"The door: {refusal.sentence()}.", f"Door: {refusal.sentence('vi')}.")
        clock = skipped("clock", "Not looked at: the door did not answer.", "Chưa kiểm tra: door không trả lời.")
        return clock, Check("server_view", Result.WARNING, found)
    return _clock(server_time(answer) - now), _view(answer)


def _clock(ahead: timedelta) -> Check:
    seconds = abs(ahead.total_seconds())
    slow = ahead > timedelta(0)
    found = Said(
        f"This computer's clock is {seconds:.0f} s {'slow' if slow else 'fast'} by the mesh's.",
        f"Đồng hồ máy này {'chậm' if slow else 'nhanh'} {seconds:.0f} giây so với mạng.",
    )
    remedy = Said("Set the clock: use NTP or chrony.", "Hãy chỉnh đồng hồ: dùng NTP hoặc chrony.")
    if abs(ahead) > CLOCK_FAILURE:
        return failed("clock", found, remedy)
    if abs(ahead) > CLOCK_WARNING:
        return Check("clock", Result.WARNING, found, remedy)
    return sound("clock", "This computer's clock agrees with the mesh's.", "Đồng hồ máy này khớp với mạng.")


def _view(answer: door_pb2.DiagnoseResponse) -> Check:
    findings = {one.finding for one in answer.explanations}
    found = Said(
        " ".join(one.english for one in answer.explanations), " ".join(one.vietnamese for one in answer.explanations)
    )
    if findings <= {door_pb2.FINDING_ACCEPTED}:
        return Check("server_view", Result.OK, found)
    if findings <= {door_pb2.FINDING_ACCEPTED, door_pb2.FINDING_RENEW_NOW}:
        return Check("server_view", Result.WARNING, found)
    return failed("server_view", found)


def _address(place: Place, roots: list[x509.Certificate]) -> list[Check]:
    named = check_name(place)
    if named.result is Result.FAILED:
        return [named, after("reachability", "name"), after("server_certificate", "name")]
    reached = check_reachability(place)
    if reached.result is Result.FAILED:
        return [named, reached, after("server_certificate", "reachability")]
    if not roots:
        return [named, reached, after("server_certificate", "pem")]
    return [named, reached, check_server_certificate(place, roots)]


def _call(target: str, directory: DirectoryPath, before: list[Check]) -> Check:
    """A slow clock alone spares nothing: the call shows whether it matters."""
    cause = next((one.name for one in before if one.result is Result.FAILED and one.name != "clock"), "")
    return after("call", cause) if cause else check_call(target, directory)


def _parsed(files: CredentialFiles) -> tuple[list[x509.Certificate], list[x509.Certificate]]:
    chain = certificates_of(files.directory / CERTIFICATE_FILE, files.certificate_chain)
    return chain, certificates_of(files.directory / AUTHORITIES_FILE, files.root_certificates)


def _roots_of(files: CredentialFiles | None) -> list[x509.Certificate]:
    if files is None:
        return []
    try:
        return certificates_of(files.directory / AUTHORITIES_FILE, files.root_certificates)
    except CredentialsError:
        return []
