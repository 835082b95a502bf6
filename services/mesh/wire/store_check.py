"""Whether a room's store can serve it: it answers, its schema fits the code, and its clock agrees with this machine's.

What is wrong is told to the log when it changes, and to the probes as long as it lasts.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_result, wait_exponential_jitter

from services.mesh.core.background import Stopping
from services.mesh.core.config import RoomSettings, name_of
from services.mesh.core.db import Database, reason_of
from services.mesh.core.errors import StoreUnavailable
from services.mesh.wire.metrics import CLOCK_DIFFERENCE

log = structlog.get_logger(__name__)


class StoreCheck:
    """Looks at the store; `problem` and `clock_problem` are what the last look found wrong, empty if nothing."""

    def __init__(self, database: Database[Connection], settings: RoomSettings) -> None:
        self.problem = ""
        self.clock_problem = ""
        self._database = database
        self._limit = settings.clock_skew_limit
        named = ["database_url_file", *(["database_password_file"] if settings.database_password_file else [])]
        self._next = f"check that it runs, and {' and '.join(map(name_of, named))}"

    def wait(self, stopping: Stopping, require: Callable[[Connection], None]) -> None:
        """Wait until the store answers, fits and agrees on the time; raises what `require` raises of its schema."""

        def pause(seconds: float) -> None:
            stopping.wait(seconds)

        retrying = Retrying(
            retry=retry_if_result(lambda fits: not fits),
            wait=wait_exponential_jitter(multiplier=0.2, max=5),
            stop=lambda state: stopping.is_set(),
            sleep=pause,
            retry_error_callback=lambda state: False,
        )
        retrying(self.look, require)

    def look(self, require: Callable[[Connection], None] | None = None) -> bool:
        """Ask the store; returns whether nothing is wrong. Raises what `require` raises of its schema."""
        problem, clock_problem = self.find(require)
        if problem:  # what was known of the clock is not cured by a store that is silent
            clock_problem = self.clock_problem
        for found, known in ((problem, self.problem), (clock_problem, self.clock_problem)):
            if found and found != known:
                log.warning("the store does not serve this room", problem=found)
            elif known and not found:
                log.info("the store serves this room again", cured=known)
        self.problem, self.clock_problem = problem, clock_problem
        return not problem and not clock_problem

    def find(self, require: Callable[[Connection], None] | None = None) -> tuple[str, str]:
        """What is wrong with the store and with the clock, told to nobody else; raises what `require` raises."""
        try:
            with self._database.transaction() as connection:
                if require is not None:
                    require(connection)
                difference = clock_difference(connection)
                CLOCK_DIFFERENCE.set(difference.total_seconds())
        except (StoreUnavailable, DBAPIError) as error:
            return f"the store cannot be used: {reason_of(error)}; {self._next}", ""
        return "", self._judge(difference)

    def _judge(self, difference: timedelta) -> str:
        apart, limit = abs(difference).total_seconds(), self._limit.total_seconds()
        if apart <= limit:
            return ""
        return (
            f"the clock of this machine differs from the store's by {apart:.0f} s, over the limit of {limit:.0f} s; "
            "check its time synchronisation"
        )


def clock_difference(connection: Connection) -> timedelta:
    """How far this machine's clock is ahead of the store's (negative: behind), at the least.

    The store read its clock at some moment between question and answer, so that a slow way is no difference.
    """
    asked = datetime.now(UTC)
    store_time: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    answered = datetime.now(UTC)
    if asked > store_time:
        return asked - store_time
    return min(answered - store_time, timedelta())
