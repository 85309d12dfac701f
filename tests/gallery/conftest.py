"""The database server that the tests of galleries share."""

import pytest

from tests.gallery.database import start_server


@pytest.fixture(scope="session")
def server():
    running = start_server()
    yield running
    running.remove()
