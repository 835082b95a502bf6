"""Metrics of a room (Prometheus). Labels are methods, reasons and names of work; nothing of callers or persons."""

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0)

CALLS = Counter("npd_calls", "Calls by method and reason (OK when served).", ["method", "reason"])
CALL_SECONDS = Histogram("npd_call_seconds", "Duration of calls.", ["method"], buckets=_BUCKETS)
STREAMS_OPEN = Gauge("npd_streams_open", "Streams open now.")
STREAMS_CUT = Counter("npd_streams_cut", "Streams that were cancelled because their client did not read.")
POLICY_REVISION = Gauge("npd_policy_revision", "Revision of the policy in use.")
POLICY_ISSUE_TIME = Gauge("npd_policy_issue_timestamp_seconds", "When the policy in use was last confirmed.")
POLICY_REFUSED = Counter("npd_policy_updates_refused", "Policy updates refused: signature, environment or sequence.")
POLICY_UNKEPT = Counter("npd_policy_updates_unkept", "Policy updates that could not be written to disk.")
AGREEMENTS_DEFECTIVE = Gauge("npd_agreements_defective", "Agreements without two valid signatures.")
CERTIFICATE_EXPIRE_TIME = Gauge("npd_certificate_expire_timestamp_seconds", "When this room's certificate expires.")
CREDENTIALS_REFUSED = Counter("npd_credentials_refused", "Certificate files refused at reload; the old ones stay.")
REFUSALS_UNRECORDED = Counter("npd_refusals_unrecorded", "Refusals whose entry could not be written.")
SEQUENCED = Counter("npd_sequenced", "Rows given a position.", ["sequence"])
OUTBOX_MESSAGES = Counter("npd_outbox_messages", "Outgoing messages by peer and outcome.", ["peer", "outcome"])
OUTBOX_WAITING = Gauge("npd_outbox_waiting", "Outgoing messages that wait, without those set aside.")
OUTBOX_OLDEST_TIME = Gauge("npd_outbox_oldest_timestamp_seconds", "When the oldest waiting one was written; 0: none.")
SET_ASIDE = Gauge("npd_set_aside", "Messages and changes that wait for a command.")
CHANGES_FOLLOWED = Counter("npd_changes_followed", "Changes of the feed by outcome.", ["outcome"])
