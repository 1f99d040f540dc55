"""The pytest plugin: the fixture `deferrals`.

It is imported in each run of pytest where deferrable is installed, so it imports nothing of the
library before the fixture is used.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

__all__ = ["deferrals"]


@pytest.fixture
def deferrals() -> Iterator[Callable[..., Any]]:
    """Have instances defer to memory for one test: ``calls = deferrals(shop)``.

    See `deferrable.testing.deferrals_of` for the arguments, and `deferrable.testing.Deferrals` for
    what it returns.
    """
    from deferrable.testing import deferrals_of

    with ExitStack() as stack:
        yield lambda instance, **options: stack.enter_context(deferrals_of(instance, **options))
