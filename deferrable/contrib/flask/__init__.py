"""An extension of Flask: jobs with an application context, and ``flask deferrable``.

Owns the extension. The rule: a job has a context of the application and none of a request, as a
command of Flask has.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from deferrable import CurrentAttempt, Middleware
from deferrable._extras import missing_extra
from deferrable.contrib._instance import HasMiddleware
from deferrable.contrib.flask._instances import add_instances

try:
    from flask import Flask
    from flask import globals as flask_globals
except ImportError as error:
    raise missing_extra("deferrable.contrib.flask", "flask", error) from error

__all__ = ["DeferrableExtension"]

_cv_request: Any = getattr(flask_globals, "_cv_request", None)
"""Where Flask before 3.2 has the current request; later its application context has it."""


class _InContext(Middleware):
    def __init__(self, app: Flask) -> None:
        self.app = app

    @contextmanager
    def around_job(self, attempt: CurrentAttempt) -> Iterator[None]:
        # In a test a job may run inside of a request, which it must not see: no worker has one.
        with ExitStack() as stack:
            if _cv_request is not None:
                stack.callback(_cv_request.reset, _cv_request.set(None))
            with self.app.app_context():
                yield


class DeferrableExtension:
    """Gives jobs of instances an application context, and the application commands.

    Args:
        app: the application; None: `init_app` is called later.
        instances: one instance, or several by their names on the command line.

    Raises:
        TypeError: no instance was given.
    """

    def __init__(
        self, app: Flask | None = None, instances: "HasMiddleware | Mapping[str, Any] | None" = None
    ) -> None:
        if instances is None:
            raise TypeError("give the instance: DeferrableExtension(app, shop)")
        named = instances if isinstance(instances, Mapping) else {"default": instances}
        self.instances: dict[str, Any] = dict(named)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Use an application. The jobs of an instance have the context of the last one."""
        app.extensions["deferrable"] = self
        add_instances(self.instances)
        for instance in self.instances.values():
            known = [each for each in instance.middleware if isinstance(each, _InContext)]
            if known:
                known[0].app = app
            else:
                instance.register_middleware(_InContext(app))
        try:
            from deferrable.contrib.flask.commands import group
        except ImportError:  # without deferrable[cli] there are no commands
            return
        app.cli.add_command(group(list(self.instances)))
