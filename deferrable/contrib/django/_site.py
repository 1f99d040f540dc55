"""The instances behind the backends of ``TASKS``, one for each queue.

Owns what is shared in a process. Django makes a backend object for each thread, and all of them use
the same instances. The rule: every task that was decorated is a job of every instance, whichever
queue its decorator names, because ``using`` may send it to any of them.
"""

import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.dispatch import receiver

from deferrable import Deferrable, DeferrableError, Job
from deferrable.contrib.django._running import FinishedSignals, runner_of
from deferrable.contrib.django._settings import Settings, read_settings

__all__ = [
    "Site",
    "add_schedule",
    "find_task",
    "name_of",
    "note_task",
    "site_of",
    "why_not_importable",
]

_lock = threading.RLock()
_tasks: dict[str, Any] = {}
_schedules: list[tuple[Any, dict[str, Any]]] = []
_sites: dict[str, tuple[Mapping[str, Any], "Site"]] = {}


def name_of(task: Any) -> str:
    """The name of a task's job in items."""
    return f"{task.func.__module__}:{task.func.__qualname__}"


class Site:
    """One backend of ``TASKS``.

    Args:
        alias: its name there.
        sender: the class of the backend, for signals.
        queues: the names of its queues; empty: any.
    """

    def __init__(self, alias: str, sender: type, queues: Iterable[str], settings: Settings) -> None:
        self.alias = alias
        self.settings = settings
        self._sender = sender
        self._queues = sorted(queues)
        self._factory: Any = None
        self._instances: dict[str, Deferrable] = {}
        self._jobs: dict[tuple[str, str], Job[..., Any]] = {}

    @property
    def queues(self) -> list[str]:
        """The queues of the settings, and those that were used."""
        return sorted({*self._queues, *self._instances})

    @property
    def instances(self) -> dict[str, Deferrable]:
        """The instance of each queue."""
        return {name: self.instance(name) for name in self.queues}

    def instance(self, queue_name: str) -> Deferrable:
        """The instance of a queue; made on first use.

        Raises:
            InvalidOptions, ImportError: the settings name no backend that can be used.
        """
        made = self._instances.get(queue_name)
        if made is not None:
            return made
        with _lock:
            if queue_name not in self._instances:
                self._instances[queue_name] = self._make(queue_name)
            return self._instances[queue_name]

    def _make(self, queue_name: str) -> Deferrable:
        if self._factory is None:
            self._factory = self.settings.make_factory()
        backend = self._factory.create_backend_for_group(f"{self.settings.prefix}{queue_name}")
        arguments = {"serializer": "json", **self.settings.instance}
        if arguments.get("import_from") is None:
            arguments["import_from"] = _packages_of_site()
        # The arguments are checked before, because the function of a job takes any.
        instance = Deferrable(backend, **arguments, check_arguments=False)
        instance.register_middleware(FinishedSignals(self._sender))
        for task in _tasks.values():
            self._register(queue_name, instance, task)
        for task, schedule in _schedules:
            if (task.backend, task.queue_name) == (self.alias, queue_name):
                self._schedule(instance, task, schedule)
        return instance

    def _register(self, queue_name: str, instance: Deferrable, task: Any) -> None:
        runner, name = runner_of(task, self.alias, self._sender), name_of(task)
        self._jobs[queue_name, name] = instance.deferrable(name=name)(runner)

    def close(self) -> None:
        """Close the instances. An error of a broker does not matter any more."""
        for instance in self._instances.values():
            with suppress(DeferrableError):
                instance.close()

    def job(self, task: Any) -> "Job[..., Any]":
        """The job of a task, with no options yet."""
        note_task(task)
        self.instance(task.queue_name)
        return self._jobs[task.queue_name, name_of(task)]

    def add_task(self, task: Any) -> None:
        """Make a task a job of all instances so far."""
        for queue_name, instance in self._instances.items():
            self._register(queue_name, instance, task)

    def add_schedule(self, task: Any, schedule: Mapping[str, Any]) -> None:
        """Add a schedule, if the instance of its queue exists already."""
        instance = self._instances.get(task.queue_name)
        if task.backend == self.alias and instance is not None:
            self._schedule(instance, task, schedule)

    def _schedule(self, instance: Deferrable, task: Any, schedule: Mapping[str, Any]) -> None:
        instance.periodic(**schedule)(self._jobs[task.queue_name, name_of(task)])


def site_of(alias: str, sender: type, queues: Iterable[str], params: Mapping[str, Any]) -> Site:
    """The site of a backend; another one after the settings were changed, as tests do."""
    with _lock:
        known = _sites.get(alias)
        if known is None or known[0] != params:
            settings = read_settings(alias, params.get("OPTIONS", {}))
            known = _sites[alias] = (params, Site(alias, sender, queues, settings))
        return known[1]


@receiver(setting_changed)  # type: ignore[untyped-decorator]  # Django has no types
def _forget_sites(*, setting: str, **_: Any) -> None:
    """Begin with empty queues in memory, and with other settings, as tests change them."""
    if setting == "TASKS":
        with _lock:
            sites = [site for _, site in _sites.values()]
            _sites.clear()
        for site in sites:
            site.close()


def note_task(task: Any) -> None:
    """Make a task that was decorated a job of every instance."""
    name = name_of(task)
    known = _tasks.get(name)
    if known is not None and known.func is task.func:
        return
    with _lock:
        _tasks[name] = task
        for _, site in list(_sites.values()):
            site.add_task(task)


def add_schedule(task: Any, schedule: dict[str, Any]) -> None:
    """Note a schedule of a task."""
    with _lock:
        _schedules.append((task, schedule))
        for _, site in list(_sites.values()):
            site.add_schedule(task, schedule)


def find_task(name: str) -> Any:
    """The task of a job's name, imported if the site's packages have it.

    Raises:
        LookupError: there is none.
    """
    module = name.partition(":")[0]
    packages = tuple(f"{package}." for package in _packages_of_site())
    if name not in _tasks and f"{module}.".startswith(packages):
        try:
            import_module(module)
        except ImportError as error:
            raise LookupError(f"{module} cannot be imported: {error}") from error
    try:
        return _tasks[name]
    except KeyError:
        raise LookupError(f"no task is called {name}") from None


def why_not_importable(task: Any) -> str | None:
    """Say why a worker could not find a task; None if it can."""
    function = task.func
    if function.__module__ == "__main__":
        return "it is defined in the program itself; move it to a module, such as tasks.py"
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    if getattr(found, "func", None) is function:
        return None
    return (
        f"{function.__module__} has {'nothing' if found is None else 'something else'} with the "
        f"name {function.__qualname__}; decorate it there, under this name"
    )


def _packages_of_site() -> tuple[str, ...]:
    """What a worker may import to find a task: the installed apps, and the site's own package."""
    own = django_settings.ROOT_URLCONF if hasattr(django_settings, "ROOT_URLCONF") else ""
    names = {config.name for config in apps.get_app_configs()}
    names |= {own.rpartition(".")[0]} if isinstance(own, str) else set()
    return tuple(sorted(filter(None, names)))
