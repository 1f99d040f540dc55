"""Run Django's own tests of tasks against our backend: ``django_suite.py FOLDER``.

Owns what is put in the place of Django's dummy backend. FOLDER is ``tests/tasks`` of a source
distribution of Django: an installed Django has no tests. Two tests do not apply: they change
a result inside of the dummy backend, and read it again.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import django
from django.conf import settings
from django.test.runner import DiscoverRunner

DOES_NOT_APPLY = {"test_refresh_result", "test_refresh_result_async"}
"""Of the class ``DummyBackendTestCase``."""

BACKEND = """
import sys
from deferrable.contrib.django import DeferrableBackend

class SuiteBackend(DeferrableBackend):
    supports_priority = True  # the dummy backend has them; its tests only pass them on

    def __init__(self, alias, params):
        super().__init__(alias, params)
        options = {"url": f"sqlite:///{sys.path[0]}/jobs.db?durability=process", "push": "at_once"}
        self._params = {**params, "OPTIONS": options}

    def clear(self):
        for instance in self.site.instances.values():
            instance.backend.queue.flush()

    @property
    def results(self):
        instances = self.site.instances.values()
        return [self.get_result(call.id) for each in instances for call in each.peek(1000)]
"""


def main(folder: Path) -> int:
    """The number of failures."""
    place = Path(tempfile.mkdtemp(prefix="deferrable-suite-"))
    shutil.copytree(folder, place / "tasks")
    (place / "suite_backend.py").write_text(BACKEND)
    for path in (place / "tasks").glob("test_*.py"):
        text = path.read_text()
        text = text.replace(
            "from django.tasks.backends.dummy import DummyBackend",
            "from suite_backend import SuiteBackend as DummyBackend",
        )
        text = text.replace(
            '"django.tasks.backends.dummy.DummyBackend"', '"suite_backend.SuiteBackend"'
        )
        path.write_text(text)
    sys.path.insert(0, str(place))
    settings.configure(
        SECRET_KEY="for tests",
        USE_TZ=False,
        INSTALLED_APPS=["deferrable.contrib.django"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        ROOT_URLCONF="",
        TASKS={"default": {"BACKEND": "suite_backend.SuiteBackend", "QUEUES": []}},
    )
    django.setup()
    names = ("test_dummy_backend", "test_tasks", "test_custom_backend", "test_immediate_backend")
    runner = DiscoverRunner(verbosity=1)
    suite = runner.build_suite([f"tasks.{name}" for name in names])
    suite._tests = [
        test
        for test in suite
        if type(test).__name__ != "DummyBackendTestCase"
        or test._testMethodName not in DOES_NOT_APPLY
    ]
    runner.setup_test_environment()
    databases = runner.setup_databases()
    result = runner.run_suite(suite)
    runner.teardown_databases(databases)
    return len(result.failures) + len(result.errors)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
