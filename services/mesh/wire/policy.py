"""The policy that a room holds: signed updates of the registry, verified, kept on disk, and turned into rights."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.message import DecodeError

from npd.registry.v1 import policy_pb2
from services.mesh.core.rights import Policy
from services.mesh.wire import policy_entries
from services.mesh.wire.metrics import (
    AGREEMENTS_DEFECTIVE,
    POLICY_ISSUE_TIME,
    POLICY_REFUSED,
    POLICY_REVISION,
    POLICY_UNKEPT,
)
from services.mesh.wire.policy_files import PolicyFiles

log = structlog.get_logger(__name__)

CONTEXT = b"npd-policy-v1\n"


class UpdateRefused(Exception):
    """An update is not what the registry signed for this environment, or does not follow on what is held."""


class UpdateGap(UpdateRefused):
    """An update builds on a revision that is not held: ask for a whole snapshot."""


@dataclass(frozen=True, slots=True)
class SignedUpdate:
    """A serialised PolicyUpdate and the registry's signature over CONTEXT and those bytes."""

    update: bytes
    signature: bytes


class PolicyKeeper:
    """Holds the policy in use. Reading `current` needs no lock; `on_change` is called after every change of rights."""

    def __init__(
        self,
        environment: str,
        registry_key: Ed25519PublicKey,
        roots: Callable[[], Sequence[x509.Certificate]],
        files: PolicyFiles,
    ) -> None:
        self.current = Policy()
        self._environment = environment
        self._key = registry_key
        self._roots = roots
        self._files = files
        self._mutex = threading.Lock()
        self._on_change: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after the first policy and every change of rights, from the thread that took the update."""
        self._on_change.append(listener)

    def load(self) -> None:
        """Start from what is on disk; what does not verify any more, or does not follow on, is left out."""
        problems = []
        for update, signature in self._files.read():
            try:
                self._take(SignedUpdate(update, signature))
            except UpdateRefused as refusal:
                problems.append(str(refusal))
        if problems:
            log.warning("kept policy left out, waiting for the registry", updates=len(problems), problem=problems[0])

    def take(self, signed: SignedUpdate) -> None:
        """Verify an update, keep it on disk, and use it. Raises UpdateRefused, UpdateGap."""
        try:
            self._take(signed, self._files)
        except UpdateRefused:
            POLICY_REFUSED.inc()
            raise

    def revision_to_ask_for(self) -> int:
        """The revision held, or 0 when so many changes are kept that a whole snapshot should replace them."""
        return 0 if self._files.are_long else self.current.revision

    def age(self, now: datetime) -> float:
        """Seconds since the registry last confirmed the policy in use."""
        return (now - self.current.issue_time).total_seconds()

    def _take(self, signed: SignedUpdate, files: PolicyFiles | None = None) -> None:
        """Take an update.

        1. The registry signed these bytes.
        2. They are for this environment.
        3. They follow on the revision held, and lead forward; a whole snapshot follows on anything older.
        4. All of them can be read: part of an update would be a policy that nobody issued.
        5. They go to disk before they count, so that a restart never knows less than this process did.
        """
        try:
            self._key.verify(signed.signature, CONTEXT + signed.update)  # (1)
            update = policy_pb2.PolicyUpdate.FromString(signed.update)
        except (InvalidSignature, DecodeError):
            raise UpdateRefused("the update is not signed by the registry's policy key") from None
        if update.environment != self._environment:  # (2)
            raise UpdateRefused(f"the update is for the environment {update.environment}")
        with self._mutex:
            held = self.current
            if update.base_revision not in (0, held.revision):  # (3)
                raise UpdateGap(f"the update builds on revision {update.base_revision}, held is {held.revision}")
            if update.revision < held.revision:
                raise UpdateRefused(f"the update leads back from revision {held.revision} to {update.revision}")
            following = self._following(held, update)  # (4)
            if files is not None:  # (5)
                self._keep(files, signed, update, held, following)
            self.current = following
        self._report()
        if update.entries or not held.revision:
            self._tell(self._on_change)

    def _following(self, held: Policy, update: policy_pb2.PolicyUpdate) -> Policy:
        """The policy that an update leads to. Raises UpdateRefused for entries that cannot be read."""
        following = held
        try:
            if update.entries:
                start = held if update.base_revision else Policy(issue_time=held.issue_time)
                following = policy_entries.apply(start, update.entries, self._environment, self._roots())
                if not update.base_revision:
                    following = following.remembering(held)
            issue_time = update.issue_time.ToDatetime(UTC)
        except (ValueError, OverflowError, DecodeError):
            raise UpdateRefused("the update holds entries that this version cannot read") from None
        return replace(following, revision=update.revision).fresh_at(issue_time)

    @staticmethod
    def _keep(
        files: PolicyFiles, signed: SignedUpdate, update: policy_pb2.PolicyUpdate, held: Policy, following: Policy
    ) -> None:
        try:
            files.keep(
                signed.update,
                signed.signature,
                whole=update.base_revision == 0,
                sign_of_life=not update.entries,
                forgets=following.forgets_more_than(held),
                remembers=bool(following.forgotten or following.given_up),
            )
        except OSError as error:  # a revocation counts all the same; only a cold start would not know it
            POLICY_UNKEPT.inc()
            log.error("a policy update could not be kept on disk", problem=error.strerror)

    def _report(self) -> None:
        POLICY_REVISION.set(self.current.revision)
        POLICY_ISSUE_TIME.set(self.current.issue_time.timestamp())
        AGREEMENTS_DEFECTIVE.set(sum(1 for agreement in self.current.agreements.values() if agreement.defect))

    @staticmethod
    def _tell(listeners: Iterable[Callable[[], None]]) -> None:
        for listener in listeners:
            listener()


def open_keeper(
    environment: str, registry_key: Ed25519PublicKey, roots: Callable[[], Sequence[x509.Certificate]], directory: Path
) -> PolicyKeeper:
    """A keeper that starts from what `directory` holds."""
    keeper = PolicyKeeper(environment, registry_key, roots, PolicyFiles(directory))
    keeper.load()
    return keeper
