"""Fixtures of the tests of what the platform team deploys."""

import pytest

from tests.k8s.recording import Recording, record


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """The figures of a real run of all rooms."""
    return record(tmp_path_factory.mktemp("recorded"), 30201)
