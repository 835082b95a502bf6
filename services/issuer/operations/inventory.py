"""Finds certificates: one, by what is wanted of them, and those that expire soon. Changes nothing."""

from dataclasses import replace
from datetime import timedelta
from itertools import groupby

from services.issuer.domain import (
    Certificate,
    CertificateName,
    CertificateUnknown,
    ExpiringAtAgency,
    ExpiringReport,
    Wanted,
)
from services.issuer.operations.office import Office
from services.issuer.repository.certificates import Place
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.errors import MethodNotAllowed

REPORTED = 5000
"""Certificates that one report names at most, so that it stays below the size of an answer: the first to end."""

_LIST = "/npd.issuer.v1.CertificateService/ListCertificates"


class InventoryOperations:
    """The certificates as operators see them; an agency sees its own."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def get_certificate(self, caller: Caller, name: CertificateName) -> Certificate:
        """A certificate. Raises CertificateUnknown, also for another agency's."""
        with self._office.database.transaction() as tx:
            found = tx.certificates.find(name)
        if found is None or (caller.kind is CallerKind.AGENCY and found.agency_id != caller.agency_id):
            raise CertificateUnknown()
        return found

    def list_certificates(self, caller: Caller, wanted: Wanted, after: Place | None, limit: int) -> list[Certificate]:
        """Certificates by their end, soonest first; of their bytes the first one alone.

        Raises MethodNotAllowed for an agency that asks for another's, by its id.
        """
        if caller.kind is CallerKind.AGENCY:
            if wanted.agency_id not in ("", caller.agency_id):
                raise MethodNotAllowed(method=_LIST, caller_kind=caller.kind.name.lower())
            wanted = replace(wanted, agency_id=caller.agency_id)
        with self._office.database.transaction() as tx:
            return tx.certificates.page(wanted, self._office.clock.now(), after, limit)

    def report_expiring(self, within: timedelta) -> ExpiringReport:
        """What expires soon and has no later one of its identity and profile, by agency, each with its contact."""
        now, policy = self._office.clock.now(), self._office.policy()
        with self._office.database.transaction() as tx:
            found = tx.certificates.expiring(now, now + within, REPORTED + 1)
        reports = []
        for agency_id, group in groupby(sorted(found[:REPORTED], key=_by_agency), key=lambda one: one.agency_id):
            agency = policy.agencies.get(agency_id)
            name, contact = (agency.name, agency.contact) if agency else ("", "")
            reports.append(ExpiringAtAgency(agency_id, name, contact, tuple(group)))
        return ExpiringReport(tuple(reports), is_partial=len(found) > REPORTED)


def _by_agency(certificate: Certificate) -> str:
    return certificate.agency_id
