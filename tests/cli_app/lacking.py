"""A module that imports one that is not there."""

import no_such_library  # noqa: F401
