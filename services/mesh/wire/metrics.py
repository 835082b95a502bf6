"""Metrics of a room (Prometheus). Labels are methods, reasons and names of work; nothing of callers or persons."""

from prometheus_client import Counter, Gauge, Histogram

from services.mesh.core.errors import Kind

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0)

CALLS = Counter("npd_calls", "Calls by method and reason (OK when served).", ["method", "reason"])
CALLS_BY_CODE = Counter("npd_calls_by_code", "Calls by gRPC status code; each code is there from the start.", ["code"])
CALL_SECONDS = Histogram("npd_call_seconds", "Duration of calls.", ["method"], buckets=_BUCKETS)
BUILD = Gauge("npd_build_info", "1; the label says which version this is.", ["version"])
NOT_READY = Gauge("npd_not_ready", "1: the condition stood in the way when readiness was last asked.", ["condition"])
CLOCK_DIFFERENCE = Gauge("npd_clock_difference_seconds", "How far this machine's clock is ahead of the store's.")
STREAMS_OPEN = Gauge("npd_streams_open", "Streams open now.")
STREAMS_CUT = Counter("npd_streams_cut", "Streams that were cancelled because their client did not read.")
POLICY_REVISION = Gauge("npd_policy_revision", "Revision of the policy in use.")
POLICY_ISSUE_TIME = Gauge("npd_policy_issue_timestamp_seconds", "When the policy in use was last confirmed.")
POLICY_REFUSED = Counter("npd_policy_updates_refused", "Policy updates refused: signature, environment or sequence.")
POLICY_UNKEPT = Counter("npd_policy_updates_unkept", "Policy updates that could not be written to disk.")
AGREEMENTS_DEFECTIVE = Gauge("npd_agreements_defective", "Agreements without two valid signatures.")
CERTIFICATE_EXPIRE_TIME = Gauge("npd_certificate_expire_timestamp_seconds", "When this room's certificate expires.")
CERTIFICATE_START_TIME = Gauge("npd_certificate_start_timestamp_seconds", "When its validity began.")
CREDENTIALS_REFUSED = Counter("npd_credentials_refused", "Certificate files refused at reload; the old ones stay.")
REFUSALS_UNRECORDED = Counter("npd_refusals_unrecorded", "Refusals whose entry could not be written.")
SEQUENCED = Counter("npd_sequenced", "Rows given a position.", ["sequence"])
SEQUENCE_PENDING = Gauge(
    "npd_sequence_pending", "Committed rows that have no position yet; counted to 10,001.", ["sequence"]
)
SEQUENCE_OLDEST_AGE = Gauge(
    "npd_sequence_oldest_age_seconds", "Age of the oldest of them when last measured; 0: there is none.", ["sequence"]
)
OUTBOX_MESSAGES = Counter("npd_outbox_messages", "Outgoing messages by peer and outcome.", ["peer", "outcome"])
OUTBOX_WAITING = Gauge("npd_outbox_waiting", "Outgoing messages that wait, without those set aside.")
OUTBOX_OLDEST_TIME = Gauge("npd_outbox_oldest_timestamp_seconds", "When the oldest waiting one was written; 0: none.")
SET_ASIDE = Gauge("npd_set_aside", "Messages and changes that wait for a command.")
CHANGES_FOLLOWED = Counter("npd_changes_followed", "Changes of the feed by outcome.", ["outcome"])
CHAINS_OVERDUE = Gauge(
    "npd_chains_overdue", "Chains whose legal clock has run out while something of them waits here.", ["clock"]
)

OK, CLIENT_LEFT = "OK", "CANCELLED"
for _code in (OK, CLIENT_LEFT, *(kind.value for kind in Kind)):
    CALLS_BY_CODE.labels(_code)  # else the first fault after a start would be no increase
