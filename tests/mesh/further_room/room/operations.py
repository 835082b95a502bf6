"""The use case of this room."""

from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller
from services.mesh.core.db import Database
from services.notice.domain import Notice
from services.notice.repository import Notices


class PuttingUp:
    """Puts up notices."""

    def __init__(self, database: Database[Notices]) -> None:
        self._db = database

    def put_up(self, caller: Caller, text: str, key: AnswerKey) -> Notice:
        """Put up a notice of the caller's agency."""
        with self._db.transaction() as tx, tx.answers.once(caller, key, Notice) as answer:
            if answer.given:
                return answer.given
            return answer.give(Notice(tx.add(caller.agency_id, text)))
