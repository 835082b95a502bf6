"""What a source room tells the record: messages to `sharing` about what an act changed, and about who read what."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from npd.common.v1 import access_pb2, chain_pb2
from npd.sharing.v1 import contribution_pb2, usage_pb2
from services.mesh.core.caller import Caller
from services.mesh.core.chain import Act, Causation
from services.mesh.core.evidence.entry import Outcome
from services.mesh.core.outbox import Message
from services.mesh.core.rights import Access, Ground

SHARING = "sharing"
CONTRIBUTION = "contribution"
USE = "use"


@dataclass(frozen=True, slots=True)
class Told:
    """What an act tells of one person.

    `person` is a serialised npd.common.v1.Person with the values, `paths` its top-level paths that are told; one that
    is not set says that there is no value any more. `pin` names the person; empty: `subject_id` does, as only
    `identity` may.
    """

    subject_id: UUID
    pin: str
    person: bytes
    paths: tuple[str, ...]
    event_time: datetime


def contributions(act: Act, told: Iterable[Told]) -> list[Message]:
    """A message for each person that an act tells of, registered at the act's time."""
    return [_contribution(act, number, one) for number, one in enumerate(told)]


def use(caller: Caller, ground: Ground, method: str, subject_id: UUID, paths: Iterable[str], time: datetime) -> Message:
    """A message that says what an officer read in this room; it is written before the answer leaves.

    Uses are independent of each other and of what is contributed, so that each has an order of its own.
    """
    use_id = uuid4()
    wire = usage_pb2.Use(
        use_id=str(use_id),
        subject_id=str(subject_id),
        method=method,
        access=access_to_wire(_with_origin(ground.access, caller.identity)),
        outcome=Outcome.DISCLOSED.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        paths=sorted(paths),
        purpose=ground.purpose,
        provision=ground.provision,
    )
    wire.use_time.FromDatetime(time)
    return Message(use_id, SHARING, USE, use_id, wire.SerializeToString(), Causation(use_id, use_id))


def access_to_wire(access: Access) -> access_pb2.AccessContext:
    """A ground on the wire."""
    return access_pb2.AccessContext(
        agreement_id=access.agreement_id,
        case_reference=access.case_reference,
        officer_id=access.officer_id,
        origin=access.origin,
    )


def causation_to_wire(causation: Causation) -> chain_pb2.Causation:
    """A place in a chain on the wire."""
    return chain_pb2.Causation(correlation_id=str(causation.correlation_id), causation_id=str(causation.causation_id))


def _contribution(act: Act, number: int, told: Told) -> Message:
    wire = contribution_pb2.ContributionItem(
        event_id=f"{act.act_id}:{number}", causation=causation_to_wire(act.causation)
    )
    if told.pin:
        wire.pin = told.pin
    else:
        wire.subject_id = str(told.subject_id)
    wire.person.ParseFromString(told.person)
    wire.update_mask.paths.extend(told.paths)
    wire.event_time.FromDatetime(min(told.event_time, act.time))
    wire.register_time.FromDatetime(act.time)
    if act.ground is not None:
        wire.access.CopyFrom(access_to_wire(act.ground))
    payload = wire.SerializeToString(deterministic=True)
    return Message(uuid4(), SHARING, CONTRIBUTION, told.subject_id, payload, act.causation)


def _with_origin(access: Access, origin: str) -> Access:
    return Access(access.agreement_id, access.case_reference, access.officer_id, origin)
