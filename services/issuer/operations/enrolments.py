"""Enrolments: operators prepare who may come to the door. They never see a token, only its digest."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid4

from services.issuer.domain import (
    CertificateName,
    CertificateState,
    CertificateUnknown,
    Enrolment,
    EnrolmentState,
    ExpiredRenewal,
    Profile,
    TokenUnknown,
    TokenUsed,
    require_term,
)
from services.issuer.operations.office import Office
from services.issuer.repository.enrolments import Place
from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller
from services.mesh.core.errors import AlreadyRegistered, InvalidField, StateNotAllowed
from services.mesh.core.rights import SystemUnknown

_DIGEST_SIZE = 32


class EnrolmentOperations:
    """What operators do for those who have no working certificate."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def create_enrolment(
        self,
        caller: Caller,
        agency_id: str,
        system_id: str,
        profile: Profile,
        token_digest: bytes,
        expire_time: datetime | None,
        key: AnswerKey,
    ) -> Enrolment:
        """Enrol a system that the registry knows, in whatever state; one that is not active will need a second person.

        Raises InvalidField, SystemUnknown, AlreadyRegistered if the digest was used before.
        """
        if len(token_digest) != _DIGEST_SIZE:
            raise InvalidField("token_digest", f"must be {_DIGEST_SIZE} bytes, SHA-256 of the token")
        if (agency_id, system_id) not in self._office.policy().systems:
            raise SystemUnknown(system=f"{agency_id}/{system_id}")
        now = self._office.clock.now()
        enrolment = Enrolment(
            enrolment_id=uuid4(),
            token_digest=token_digest,
            identity=f"{self._office.agency_path(agency_id)}{system_id}",
            profile=profile,
            creator=caller.identity,
            create_time=now,
            expire_time=require_term(expire_time, now, "expire_time"),
        )
        with self._office.database.transaction() as tx, tx.answers.once(caller, key, Enrolment) as answer:
            if answer.given:
                return answer.given
            if not tx.enrolments.put(enrolment):
                raise AlreadyRegistered(object="enrolment of this token")
            self._office.tell(tx, key.method, caller.identity, _about(enrolment), now)
            return answer.give(enrolment)

    def cancel_enrolment(self, caller: Caller, enrolment_id: UUID, key: AnswerKey) -> Enrolment:
        """Make a token useless that was not used. Raises TokenUnknown, TokenUsed."""
        now = self._office.clock.now()
        with self._office.database.transaction() as tx, tx.answers.once(caller, key, Enrolment) as answer:
            if answer.given:
                return answer.given
            enrolment = tx.enrolments.find(enrolment_id)
            if enrolment is None:
                raise TokenUnknown()
            if enrolment.state_at(now) is EnrolmentState.USED:
                raise TokenUsed()
            cancelled = replace(enrolment, is_cancelled=True)
            tx.enrolments.change(cancelled)
            self._office.tell(tx, key.method, caller.identity, f"{_about(enrolment)}: cancelled", now)
            return answer.give(cancelled)

    def list_enrolments(self, agency_id: str, after: Place | None, limit: int) -> list[Enrolment]:
        """Enrolments, newest first; only those of an agency, if one is named."""
        identities = self._office.agency_path(agency_id) if agency_id else ""
        with self._office.database.transaction() as tx:
            return tx.enrolments.page(identities, after, limit)

    def enable_expired_renewal(
        self, caller: Caller, name: CertificateName, expire_time: datetime | None, key: AnswerKey
    ) -> ExpiredRenewal:
        """Let the holder of an expired certificate renew it at the door, once.

        It must be known here: whoever has one that is not enrols anew. Raises InvalidField, CertificateUnknown,
        StateNotAllowed unless it has expired and was not revoked.
        """
        now = self._office.clock.now()
        until = require_term(expire_time, now, "expire_time")
        with self._office.database.transaction() as tx, tx.answers.once(caller, key, ExpiredRenewal) as answer:
            if answer.given:
                return answer.given
            certificate = tx.certificates.find(name)
            if certificate is None:
                raise CertificateUnknown()
            state = certificate.state_at(now)
            if state is not CertificateState.EXPIRED or not certificate.der:
                raise StateNotAllowed(object=str(name), state=state.name)
            enabled = ExpiredRenewal(name, caller.identity, until)
            tx.enrolments.enable(enabled)
            about = f"{name} (renewal at the door until {until.isoformat(timespec='minutes')})"
            self._office.tell(tx, key.method, caller.identity, about, now)
            return answer.give(enabled)


def _about(enrolment: Enrolment) -> str:
    return f"enrolment {enrolment.enrolment_id} ({enrolment.profile.name}) for {enrolment.identity}"
