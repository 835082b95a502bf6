"""The URI identities of the mesh: who a certificate speaks for. Parses strictly and repairs nothing.

    spiffe://mesh.<environment>/<room>
    spiffe://agency.<environment>/<agency>/<system>
    spiffe://operator.<environment>/<name>

Each kind has a host of its own because X.509 name constraints see only the host of a URI (RFC 5280 4.2.1.10).
Source: DESIGN.md part 5; the SPIFFE-ID standard, sections 2.1 and 2.2.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from npd_pki.errors import HostNameMalformed, IdentityMalformed

_SEGMENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LONGEST_HOST_NAME = 253  # RFC 1035 2.3.4, less the root label
_SCHEME = "spiffe://"


class Kind(StrEnum):
    """What sort of party an identity names; also the first label of its host."""

    MESH = "mesh"
    AGENCY = "agency"
    OPERATOR = "operator"


_SEGMENTS = {Kind.MESH: ("room",), Kind.AGENCY: ("agency", "system"), Kind.OPERATOR: ("name",)}


@dataclass(frozen=True, slots=True)
class Identity:
    """One party of one environment. An instance that exists is well formed.

    Raises IdentityMalformed or HostNameMalformed when constructed from anything else.
    """

    kind: Kind
    environment: str
    path: tuple[str, ...]

    def __post_init__(self) -> None:
        host_of(self.kind, self.environment)
        expected = _SEGMENTS[self.kind]
        if len(self.path) != len(expected):
            raise IdentityMalformed(f"the path of {self.kind} identities is /<{'>/<'.join(expected)}>: {self.path!r}")
        for noun, segment in zip(expected, self.path, strict=True):
            if not _SEGMENT.fullmatch(segment):
                raise IdentityMalformed(
                    f"{noun} {segment!r} is not 1 to 63 of a-z, 0-9, _ and -, beginning with a letter or digit"
                )

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read an identity from its URI.

        Raises IdentityMalformed for every other spelling: no port, user, query, fragment, upper case, percent-encoding,
        empty or dot segment, trailing slash. `str(Identity.parse(uri)) == uri` always holds.
        """
        if not uri.startswith(_SCHEME):
            raise IdentityMalformed(f"{uri!r} does not start with {_SCHEME}")
        host, *path = uri.removeprefix(_SCHEME).split("/")
        kind, _, environment = host.partition(".")
        if kind not in set(Kind):
            raise IdentityMalformed(f"the host of {uri!r} does not start with one of {', '.join(Kind)}")
        try:
            return cls(Kind(kind), environment, tuple(path))
        except HostNameMalformed as error:
            raise IdentityMalformed(f"{uri!r}: {error}") from error

    @property
    def host(self) -> str:
        """The host of the URI, the one part that name constraints can bind: `<kind>.<environment>`."""
        return host_of(self.kind, self.environment)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.host}/{'/'.join(self.path)}"


def mesh_uri(environment: str, room: str) -> str:
    """The URI of a room, `spiffe://mesh.<environment>/<room>`.

    Raises IdentityMalformed for the room, HostNameMalformed for the environment.
    """
    return str(Identity(Kind.MESH, environment, (room,)))


def agency_uri(environment: str, agency: str, system: str) -> str:
    """The URI of one system of one agency, `spiffe://agency.<environment>/<agency>/<system>`.

    Raises IdentityMalformed for agency and system, HostNameMalformed for the environment.
    """
    return str(Identity(Kind.AGENCY, environment, (agency, system)))


def operator_uri(environment: str, name: str) -> str:
    """The URI of a person who operates the mesh, `spiffe://operator.<environment>/<name>`.

    Raises IdentityMalformed for the name, HostNameMalformed for the environment.
    """
    return str(Identity(Kind.OPERATOR, environment, (name,)))


def host_of(kind: Kind, environment: str) -> str:
    """The host that identities of a kind carry in an environment, and to which its issuing CA is constrained.

    Raises HostNameMalformed for the environment.
    """
    return f"{kind}.{require_environment(environment)}"


def require_environment(environment: str) -> str:
    """Return the environment if it is a host name that leaves room for the longest kind before it.

    So an environment that has one kind of identity has them all. Raises HostNameMalformed.
    """
    require_host_name(f"{max(Kind, key=len)}.{environment}")
    return environment


def require_host_name(name: str) -> str:
    """Return the name if it is a host name as this mesh writes them.

    That is: lower-case letters, digits and inner hyphens, labels of 1 to 63 characters, 253 in all, no wildcard, no
    trailing dot. The last label is not a number, so that no client takes the name for an IP address.
    Raises HostNameMalformed. Source: RFC 1123 2.1; RFC 5890 2.3.1.
    """
    labels = name.split(".")
    if len(name) > _LONGEST_HOST_NAME or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdecimal():
        raise HostNameMalformed(f"{name!r} is not a lower-case host name")
    return name
