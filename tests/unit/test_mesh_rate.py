"""Token buckets: so many a minute for each key, whatever the others do."""

from datetime import timedelta

import pytest

from services.mesh.core.rate import Limiter, RateExceeded


class Seconds:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def passes(limiter: Limiter, key: str) -> bool:
    """Whether one more passes."""
    try:
        limiter.take(key)
    except RateExceeded:
        return False
    return True


def test_so_many_pass_at_once_and_then_one_after_the_other() -> None:
    seconds = Seconds()
    limiter = Limiter(6, seconds=seconds)
    assert [passes(limiter, "a") for _ in range(8)] == [True] * 6 + [False] * 2
    seconds.now = 10.0
    assert [passes(limiter, "a") for _ in range(2)] == [True, False]
    seconds.now = 3600.0
    assert [passes(limiter, "a") for _ in range(7)] == [True] * 6 + [False]


def test_one_key_takes_nothing_from_another() -> None:
    limiter = Limiter(1, seconds=Seconds())
    assert passes(limiter, "a")
    assert not passes(limiter, "a")
    assert passes(limiter, "b")


def test_the_refusal_says_when_the_next_one_passes() -> None:
    seconds = Seconds()
    limiter = Limiter(6, seconds=seconds)
    for _ in range(6):
        limiter.take("a")
    with pytest.raises(RateExceeded) as raised:
        limiter.take("a")
    assert raised.value.metadata == {"limit": "6"}
    assert raised.value.retry_after == timedelta(seconds=10)
    seconds.now = 10.0
    limiter.take("a")


def test_only_so_many_keys_are_known_and_the_quietest_is_forgotten() -> None:
    limiter = Limiter(1, keys=2, seconds=Seconds())
    for key in ("a", "b"):
        limiter.take(key)
    assert not passes(limiter, "a")  # a is the one seen last
    assert passes(limiter, "c")  # b is forgotten
    assert not passes(limiter, "a")
    assert passes(limiter, "b")
