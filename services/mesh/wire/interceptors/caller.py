"""Guard: the caller's certificate makes him a caller, now and at every later look at an open stream."""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import cast

from cryptography import x509
from google.protobuf.message import Message

from services.mesh.core.caller import CertificateMissing, Leaf, identify, read_leaf
from services.mesh.core.clock import Clock
from services.mesh.core.rights import Policy
from services.mesh.wire.call import Call

_LEAVES = 20_000


class CallerGuard:
    """Reads the leaf that TLS verified, and identifies the caller by it. `roots` are those of the bundle in use."""

    def __init__(
        self,
        environment: str,
        roots: Callable[[], Sequence[x509.Certificate]],
        policy: Callable[[], Policy],
        clock: Clock,
    ) -> None:
        self._environment = environment
        self._roots = roots
        self._policy = policy
        self._clock = clock
        self._mutex = Lock()
        self._leaves: tuple[Sequence[x509.Certificate], dict[bytes, Leaf]] = ((), {})

    def __call__(self, call: Call, request: Message) -> None:
        """Set the call's leaf and caller. Raises CertificateMissing and what `identify` raises."""
        call.leaf = self._leaf(call)
        call.caller = identify(call.leaf, self._environment, self._policy(), self._clock.now())

    def _leaf(self, call: Call) -> Leaf:
        # its stub says Mapping[str, bytes | Iterable[bytes]]; it is a list of bytes per name
        facts = cast(Mapping[str, Sequence[bytes]], call.context.auth_context())
        if facts.get("ssl_tls_version") != [b"TLSv1.3"] or not facts.get("x509_pem_cert"):
            raise CertificateMissing()
        pem = facts["x509_pem_cert"][0]
        roots = self._roots()
        bundle, leaves = self._leaves
        if bundle is not roots:  # what was parsed under another bundle counts no more, nor what is being parsed
            leaves = {}
            self._leaves = (roots, leaves)
        leaf = leaves.get(pem)
        if leaf is None:
            chain = b"".join(facts.get("x509_pem_cert_chain", ()))
            presented = x509.load_pem_x509_certificates(chain) if chain else []
            leaf = read_leaf(x509.load_pem_x509_certificate(pem), presented, roots)
            with self._mutex:
                if len(leaves) >= _LEAVES:
                    leaves.clear()
                leaves[pem] = leaf
        return leaf
