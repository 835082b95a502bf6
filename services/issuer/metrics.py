"""Metrics of the issuer (Prometheus), measured in the store. Labels are profiles, hosts, states and key ids of CAs."""

from datetime import datetime

from prometheus_client import Gauge

from services.issuer.operations.office import Office
from services.mesh.core.authorities import AuthorityState
from services.mesh.core.background import Stopping

CERTIFICATES = Gauge("npd_certificates", "Certificates by state.", ["state"])
SOONEST_EXPIRE_TIME = Gauge(
    "npd_certificates_soonest_expire_timestamp_seconds",
    "When the first valid certificate expires that has no later one of its identity; 0: there is none.",
    ["profile"],
)
AUTHORITY_EXPIRE_TIME = Gauge(
    "npd_authority_expire_timestamp_seconds",
    "When an authority that issues, or is to, expires.",
    ["host", "issuer", "state"],
)
AUTHORITY_HAS_KEY = Gauge("npd_authority_has_key", "1: the key of the authority can be used here.", ["host", "issuer"])
REVOCATION_LIST_NEXT_TIME = Gauge(
    "npd_revocation_list_next_timestamp_seconds",
    "Until when the newest list of a CA in use is valid.",
    ["issuer"],
)

_MEASURE_EVERY = 30.0
_SHOWN = 16
_GONE = (AuthorityState.REVOKED, AuthorityState.RETIRED)


class Measurement:
    """Measures every half a minute."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def run(self, stopping: Stopping) -> None:
        """Measure until told to stop."""
        while not stopping.is_set():
            self.measure(self._office.clock.now())
            stopping.wait(_MEASURE_EVERY)

    def measure(self, now: datetime) -> None:
        """Measure once."""
        with self._office.database.transaction() as tx:
            counts, ends = tx.certificates.state_counts(now), tx.certificates.soonest_end(now)
            authorities = tx.authorities.all()
            listing = [one for one in authorities if one.state not in _GONE and now < one.expire_time]
            lists = [tx.authorities.revocation_list(one.key_id) for one in listing]
        for state, count in counts.items():
            CERTIFICATES.labels(state.name).set(count)
        for profile in ("CLIENT_TLS", "SIGNING"):
            SOONEST_EXPIRE_TIME.labels(profile).set(ends[profile].timestamp() if profile in ends else 0)
        for gauge in (AUTHORITY_EXPIRE_TIME, AUTHORITY_HAS_KEY, REVOCATION_LIST_NEXT_TIME):
            gauge.clear()  # an authority leaves its former state behind, and in the end the mesh
        for one in authorities:
            if one.state not in _GONE:
                issuer = one.key_id[:_SHOWN]
                AUTHORITY_EXPIRE_TIME.labels(one.host, issuer, one.state.name).set(one.expire_time.timestamp())
                AUTHORITY_HAS_KEY.labels(one.host, issuer).set(one.key_id in self._office.keyring.opened)
        for newest in filter(None, lists):
            REVOCATION_LIST_NEXT_TIME.labels(newest.issuer_key_id[:_SHOWN]).set(newest.next_time.timestamp())
