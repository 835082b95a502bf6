"""The issuer's unit of work: its rows inside a transaction, domain objects in, domain objects out. Decides nothing."""

from sqlalchemy import Connection

from services.issuer.repository.applications import Applications
from services.issuer.repository.authorities import Authorities
from services.issuer.repository.blocked_keys import BlockedKeys
from services.issuer.repository.certificates import Certificates
from services.issuer.repository.enrolments import Enrolments
from services.mesh.core.answers import Answers
from services.mesh.core.approvals import Approvals
from services.mesh.core.evidence.log import Log
from services.mesh.core.outbox import Outbox


class Ledger:
    """What an operation of this room works with inside its transaction."""

    def __init__(self, connection: Connection, log: Log) -> None:
        self.answers = Answers(connection)
        self.approvals = Approvals(connection)
        self.log = log
        self.outbox = Outbox(connection)
        self.certificates = Certificates(connection)
        self.applications = Applications(connection)
        self.enrolments = Enrolments(connection)
        self.authorities = Authorities(connection)
        self.blocked_keys = BlockedKeys(connection)
