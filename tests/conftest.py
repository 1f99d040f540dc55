"""Fixtures that every test may ask for."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """asyncio is the one loop of this library."""
    return "asyncio"
