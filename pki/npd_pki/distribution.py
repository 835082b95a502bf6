"""Where revocation lists are published: derived from who signs them, so that no two parties can disagree about it.

Source: RFC 5280 4.2.1.13; http and not https, since checking the server's certificate would need the list.
"""

import re

from cryptography import x509

from npd_pki.errors import KeyUnacceptable
from npd_pki.identity import require_environment

_KEY_ID = re.compile(r"[0-9a-f]{64}")
_KEY_ID_SHOWN = 16


def crl_url(environment: str, issuer_key_id: str) -> str:
    """The address of the revocation list of an issuer, `http://crl.<environment>/<first 16 digits of its key id>.crl`.

    Raises HostNameMalformed for the environment, KeyUnacceptable for what is no key id.
    """
    return f"http://crl.{require_environment(environment)}/{crl_file_name(issuer_key_id)}"


def crl_file_name(issuer_key_id: str) -> str:
    """The name of the file at that address, which holds the DER of the list (RFC 5280 4.2.1.13; RFC 2585 3).

    Raises KeyUnacceptable.
    """
    if not _KEY_ID.fullmatch(issuer_key_id):
        raise KeyUnacceptable(f"{issuer_key_id!r} is not a key id: 64 lower-case hexadecimal digits")
    return f"{issuer_key_id[:_KEY_ID_SHOWN]}.crl"


def crl_distribution_points(environment: str, issuer_key_id: str) -> x509.CRLDistributionPoints:
    """The extension that says so: one list, signed by the issuer itself, for all reasons."""
    place = x509.UniformResourceIdentifier(crl_url(environment, issuer_key_id))
    return x509.CRLDistributionPoints([x509.DistributionPoint([place], None, None, None)])
