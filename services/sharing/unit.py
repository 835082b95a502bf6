"""The unit of work of this room: every repository, on one connection."""

from sqlalchemy import Connection

from services.mesh.core.answers import Answers
from services.mesh.core.db import driver_of
from services.mesh.core.evidence.entry import Sealer
from services.mesh.core.evidence.log import Log
from services.sharing.changes.repository import Changes, Followers
from services.sharing.contribution.repository import Contributions
from services.sharing.record.repository import Records
from services.sharing.usage.repository import Uses


class Sharing:
    """What an operation works with inside its transaction."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self.driver = driver_of(connection)
        self.answers = Answers(connection)
        self.log = Log(connection, sealer)
        self.records = Records(connection)
        self.contributions = Contributions(connection)
        self.changes = Changes(connection)
        self.followers = Followers(connection)
        self.uses = Uses(connection)
