"""How this room refuses. Each is a fact, with its kind and its reason of npd.common.v1.ErrorReason."""

from datetime import timedelta

from services.mesh.core.errors import Kind, MeshError


class CsrMalformed(MeshError):
    """The signing request cannot be read."""

    kind, reason = Kind.INVALID_ARGUMENT, "CSR_MALFORMED"


class CsrNotProven(MeshError):
    """The signing request is not signed by the key that it holds."""

    kind, reason = Kind.INVALID_ARGUMENT, "CSR_NOT_PROVEN"


class CsrNameForeign(MeshError):
    """The signing request asks for another name than the one enrolled."""

    kind, reason = Kind.INVALID_ARGUMENT, "CSR_NAME_FOREIGN"


class KeyUnacceptable(MeshError):
    """The key is too weak, of a type that the mesh does not take, or a CA's."""

    kind, reason = Kind.INVALID_ARGUMENT, "KEY_UNACCEPTABLE"


class KeyBlocked(MeshError):
    """The key was reported as compromised."""

    kind, reason = Kind.FAILED_PRECONDITION, "KEY_BLOCKED"


class ProfileNotEntitled(MeshError):
    """The identity cannot have a certificate of this profile."""

    kind, reason = Kind.INVALID_ARGUMENT, "PROFILE_NOT_ENTITLED"


class ValidityNotAllowed(MeshError):
    """The certificate would outlive its issuer, or its profile's ceiling."""

    kind, reason = Kind.INVALID_ARGUMENT, "VALIDITY_NOT_ALLOWED"


class TokenUnknown(MeshError):
    """No enrolment has this token, or it was cancelled."""

    kind, reason = Kind.PERMISSION_DENIED, "TOKEN_UNKNOWN"


class TokenUsed(MeshError):
    """The token was used by another request."""

    kind, reason = Kind.FAILED_PRECONDITION, "TOKEN_USED"


class TokenExpired(MeshError):
    """The token came too late."""

    kind, reason = Kind.FAILED_PRECONDITION, "TOKEN_EXPIRED"


class CertificateUnknown(MeshError):
    """No such certificate, or none of the caller's."""

    kind, reason = Kind.NOT_FOUND, "CERTIFICATE_UNKNOWN"


class CertificateMalformed(MeshError):
    """The certificate cannot be read."""

    kind, reason = Kind.INVALID_ARGUMENT, "CERTIFICATE_MALFORMED"


class ApplicationUnknown(MeshError):
    """No such application, or none of the caller's."""

    kind, reason = Kind.NOT_FOUND, "APPLICATION_UNKNOWN"


class RenewalNotEnabled(MeshError):
    """No operator enabled the renewal of this expired certificate, or it was used, or its time is over."""

    kind, reason = Kind.PERMISSION_DENIED, "RENEWAL_NOT_ENABLED"


class SignatureInvalid(MeshError):
    """The signature is not that of the expired certificate's key."""

    kind, reason = Kind.PERMISSION_DENIED, "SIGNATURE_INVALID"


class RevocationReasonNotAllowed(MeshError):
    """A holder gave a reason that is an operator's."""

    kind, reason = Kind.PERMISSION_DENIED, "REVOCATION_REASON_NOT_ALLOWED"


class AuthorityUnknown(MeshError):
    """No such authority."""

    kind, reason = Kind.NOT_FOUND, "AUTHORITY_UNKNOWN"


class AuthorityMissing(MeshError):
    """No authority issues for this kind of identity now."""

    kind, reason = Kind.UNAVAILABLE, "AUTHORITY_MISSING"
    retry_after = timedelta(minutes=1)


class AuthorityInUse(MeshError):
    """The authority still has unexpired certificates."""

    kind, reason = Kind.FAILED_PRECONDITION, "AUTHORITY_IN_USE"


class AuthorityNotAcknowledged(MeshError):
    """Rooms have not heard of the authority yet."""

    kind, reason = Kind.FAILED_PRECONDITION, "AUTHORITY_NOT_ACKNOWLEDGED"


class AuthorityKeyUnusable(MeshError):
    """The authority's key is not here, or cannot be used."""

    kind, reason = Kind.FAILED_PRECONDITION, "AUTHORITY_KEY_UNUSABLE"
