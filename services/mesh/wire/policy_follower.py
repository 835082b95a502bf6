"""Follows the registry's policy stream: takes every update, and resumes for ever."""

from collections.abc import Callable, Iterator

import grpc
import structlog

from npd.registry.v1 import policy_pb2, policy_pb2_grpc
from services.mesh.core.background import Stopping
from services.mesh.wire.policy import PolicyKeeper, SignedUpdate, UpdateGap

log = structlog.get_logger(__name__)

# Longer than the server's planned end of a Watch, so that a stream that is silently dead does not last.
_WATCH_TIMEOUT = 270.0

PolicySource = Callable[[int, Stopping], Iterator[SignedUpdate]]
"""Yields updates from a revision on, until the stream ends or the room stops."""


class PolicyFollower:
    """Feeds a keeper from a source. An update that does not follow on makes it ask for a whole snapshot."""

    def __init__(self, keeper: PolicyKeeper, source: PolicySource) -> None:
        self._keeper = keeper
        self._source = source

    def run(self, stopping: Stopping) -> None:
        """Follow until told to stop. Raises what the source raises; it is then run again."""
        revision = self._keeper.revision_to_ask_for()
        while not stopping.is_set():
            try:
                for update in self._source(revision, stopping):
                    self._keeper.take(update)
                    if stopping.is_set():
                        return
                revision = self._keeper.revision_to_ask_for()
            except UpdateGap as gap:
                log.warning("asking for a whole snapshot of the policy", problem=str(gap))
                revision = 0


def registry_source(channel: grpc.Channel) -> PolicySource:
    """The policy as the registry streams it over a channel."""
    stub = policy_pb2_grpc.PolicyServiceStub(channel)

    def follow(revision: int, stopping: Stopping) -> Iterator[SignedUpdate]:
        stream = stub.WatchPolicy(policy_pb2.WatchPolicyRequest(revision=revision), timeout=_WATCH_TIMEOUT)
        try:
            for response in stream:
                yield SignedUpdate(response.update, response.signature)
        finally:
            stream.cancel()

    return follow
