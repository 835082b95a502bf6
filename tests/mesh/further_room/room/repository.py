"""SQL of notices."""

from sqlalchemy import Connection

from services.mesh.core.answers import Answers
from services.notice.tables import NOTICES


class Notices:
    """The unit of work of this room."""

    def __init__(self, connection: Connection) -> None:
        self.answers = Answers(connection)
        self._connection = connection

    def add(self, agency_id: str, text: str) -> int:
        """Add a notice; returns its number."""
        row = NOTICES.insert().values(agency_id=agency_id, text=text).returning(NOTICES.c.number)
        return self._connection.execute(row).scalar_one()
