"""A restore that was noted: from when on others must tell again."""

from datetime import UTC, datetime, timedelta

from services.mesh.core.restoration import Newest, Restoration

POINT = datetime(2026, 11, 24, 2, 10, tzinfo=UTC)


def since(*newest: Newest) -> datetime:
    return Restoration(1, 1_700_000_000, POINT, newest, 0, is_told_again=True).since


def test_others_tell_again_from_before_the_newest_that_the_store_holds() -> None:
    acts = Newest("act in the log", POINT, 7), Newest("message that waits", POINT - timedelta(hours=1), None)
    assert since(*acts) == POINT - timedelta(minutes=10)


def test_what_a_standby_replayed_after_the_restore_moves_nothing_forward() -> None:
    replayed = Newest("transaction of the recovery", POINT + timedelta(hours=3), None)
    assert since(replayed, Newest("act in the log", POINT, 7)) == POINT - timedelta(minutes=10)
    assert since(replayed) == datetime.fromtimestamp(0, UTC)
