"""The unit of work that rooms of the ring have in common; a room adds its own repositories by a subclass."""

from sqlalchemy import Connection

from services.mesh.core.answers import Answers
from services.mesh.core.chain import Chain
from services.mesh.core.evidence.log import Log
from services.mesh.core.following import Followed
from services.mesh.core.outbox import Outbox
from services.mesh.core.people import People


class RingUnit:
    """What an operation of a source room works with inside its transaction. `room` is the room's name."""

    def __init__(self, connection: Connection, log: Log, room: str) -> None:
        self.connection = connection
        self.answers = Answers(connection)
        self.log = log
        self.outbox = Outbox(connection)
        self.followed = Followed(connection)
        self.chain = Chain(connection)
        self.people = People(connection, room)
