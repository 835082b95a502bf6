"""What a ministry needs to call the mesh and to check its evidence.

The public names are loaded when they are first used, so that whoever checks a proof offline loads no gRPC.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npd.common.v1.access_pb2 import AccessContext
    from npd.sharing.v1.change_pb2 import Cursor
    from npd_client.channel import RotatingChannel, Timing
    from npd_client.client import Client, date_of, read_endpoints
    from npd_client.credentials import Credentials, CredentialsError
    from npd_client.doctor import diagnose
    from npd_client.enrolment import enrol, renew_expired
    from npd_client.errors import Refusal, Unreachable, refusal_of
    from npd_client.merkle import EvidenceInvalid
    from npd_client.note import VerifierKey
    from npd_client.receipts import prove, read_verifier_key, verify
    from npd_client.renewer import RenewalTiming, Renewer

__all__ = [
    "AccessContext",
    "Client",
    "Credentials",
    "CredentialsError",
    "Cursor",
    "EvidenceInvalid",
    "Refusal",
    "RenewalTiming",
    "Renewer",
    "RotatingChannel",
    "Timing",
    "Unreachable",
    "VerifierKey",
    "date_of",
    "diagnose",
    "enrol",
    "prove",
    "read_endpoints",
    "read_verifier_key",
    "refusal_of",
    "renew_expired",
    "verify",
]

_HOMES = {
    "npd.common.v1.access_pb2": ("AccessContext",),
    "npd.sharing.v1.change_pb2": ("Cursor",),
    "npd_client.channel": ("RotatingChannel", "Timing"),
    "npd_client.client": ("Client", "date_of", "read_endpoints"),
    "npd_client.credentials": ("Credentials", "CredentialsError"),
    "npd_client.doctor": ("diagnose",),
    "npd_client.enrolment": ("enrol", "renew_expired"),
    "npd_client.errors": ("Refusal", "Unreachable", "refusal_of"),
    "npd_client.merkle": ("EvidenceInvalid",),
    "npd_client.note": ("VerifierKey",),
    "npd_client.renewer": ("Renewer", "RenewalTiming"),
    "npd_client.receipts": ("prove", "read_verifier_key", "verify"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
