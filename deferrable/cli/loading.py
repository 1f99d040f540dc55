"""From ``app.jobs:stats`` to the instance.

Owns the reading of such paths, and the errors for a wrong path. An instance of either API works;
the result is its core.
"""

import asyncio
import importlib
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deferrable._codec.refusals import describe
from deferrable.aio.deferrable import Deferrable
from deferrable.aio.job import Job
from deferrable.aio.worker._polling import same_queue
from deferrable.cli.command_error import ERROR, USAGE, CommandError, one_line_errors
from deferrable.cli.ending import noting_threads
from deferrable.errors import DeferrableError
from deferrable.sync._facade import core_of

__all__ = [
    "Named",
    "check_apart",
    "check_not_local",
    "check_shared",
    "instances_in",
    "is_absent",
    "is_path_of_job",
    "load",
    "load_all",
    "looks_like_path",
    "may_be_module",
    "with_instance",
]


@dataclass(frozen=True, slots=True)
class Named:
    """An instance and its path."""

    path: str
    instance: Deferrable


def load_all(paths: Sequence[str]) -> list[Named]:
    """The instances at `paths`, each once.

    Raises:
        CommandError: a path leads to no instance.
    """
    by_instance: dict[Deferrable, Named] = {}
    for path in paths:
        named = load(path)
        by_instance.setdefault(named.instance, named)
    return list(by_instance.values())


def check_apart(named: Sequence[Named]) -> None:
    """Check that one worker can serve them all.

    Raises:
        CommandError: two instances pop from one queue.
    """
    queues = [each.instance.backend.queue for each in named]
    twins = same_queue(queues)
    if twins is not None:
        one, other = twins
        raise CommandError(
            f"{named[one].path} and {named[other].path} share {queues[one]!r}, where each would "
            "take the other's items; register all jobs with one of them, or give one of them "
            "its own group",
            USAGE,
        )


def check_shared(named: Sequence[Named]) -> None:
    """Check that other processes can defer to them.

    Raises:
        CommandError: an instance keeps its items in the memory of one process.
    """
    for each in named:
        queue = each.instance.backend.queue
        if queue.IS_LOCAL:
            raise CommandError(
                f"{each.path} keeps its items in memory ({queue!r}), where no other process can "
                "push any, so this worker would wait for ever; give it a backend that processes "
                "share, SQLiteBackendFactory, DocketsBackendFactory or SQSBackendFactory, or run "
                "a worker inside the program that defers: async with instance.worker()",
                USAGE,
            )


def check_not_local(path: str, instance: Deferrable, instead: str) -> None:
    """Check that this command sees what other processes have in the queue.

    Args:
        instead: what to do if it does not.

    Raises:
        CommandError: the instance keeps its items in the memory of one process.
    """
    queue = instance.backend.queue
    if queue.IS_LOCAL:
        raise CommandError(
            f"{path} keeps its items in memory ({queue!r}), where this command has an own copy; "
            f"{instead}",
            USAGE,
        )


def with_instance(path: str, do: Callable[[Deferrable], Awaitable[Any]]) -> None:
    """Do something with the instance at `path` on an event loop, and close it.

    Raises:
        CommandError: it leads to no instance, or the library raised an error.
    """
    named = load(path)

    async def run() -> None:
        try:
            await do(named.instance)
        finally:
            with suppress(DeferrableError):
                await named.instance.close()

    with one_line_errors(path):
        asyncio.run(run())


def looks_like_path(text: str) -> bool:
    """Whether it is written like the path of an instance; ids and numbers are not."""
    module, colon, name = text.partition(":")
    return bool(colon) and all(map(str.isidentifier, (*module.split("."), *name.split("."))))


def may_be_module(text: str) -> bool:
    """Whether it is written like a path, a file or a URL, or there is a module of this name."""
    if ":" in text or os.sep in text or text.endswith(".py"):
        return True
    name = text.partition(".")[0]
    return name.isidentifier() and (name in sys.modules or find_spec(name) is not None)


def is_path_of_job(path: str) -> bool:
    """Whether there is a job at `path`, which is its name then."""
    try:
        return isinstance(_object_at(path)[0], Job)
    except CommandError:
        return False


def load(path: str) -> Named:
    """The instance at `path`.

    Raises:
        CommandError: it leads to no instance.
    """
    found, module = _object_at(path)
    core = _instance_behind(found)
    if core is None:
        kind = type(found).__name__
        raise CommandError(
            f"{path} is not an instance of Deferrable, but of {kind}; write {_proposal(module)}",
            USAGE,
        )
    return Named(path, core)


def _object_at(path: str) -> tuple[Any, Any]:
    """What `path` leads to, and its module."""
    if "://" in path:
        scheme = path.partition(":")[0]
        raise CommandError(
            f"this command takes an instance, MODULE:NAME, and no URL ({scheme}://...); make an "
            "instance of the queue in a module, such as app.py, and write app:NAME",
            USAGE,
        )
    module_name, colon, name = path.partition(":")
    is_file = module_name.endswith(".py") or os.sep in module_name
    is_complete = "" not in module_name.split(".") or is_file
    if not is_complete or (colon and not name):
        raise CommandError(f"{path!r} is not a path to an instance; write MODULE:NAME", USAGE)
    if is_file:
        raise CommandError(
            f"{module_name!r} names a file; write {_module_path(module_name, name)}", USAGE
        )
    module = _import(module_name, path)
    if not colon:
        raise CommandError(f"{path!r} names a module only; write {_proposal(module)}", USAGE)
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CommandError(
                f"{module_name} has no {name}; write {_proposal(module)}", USAGE
            ) from None
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise CommandError(
                f"reading {name} of {module_name} raised {describe(error)}; fix the module, or "
                "show the traceback with --debug"
            ) from error
    return found, module


def _instance_behind(value: Any) -> Deferrable | None:
    """The core of an instance of either API; None for any other object.

    A module also holds objects that stand for others, such as the settings of Django. Asking one of
    what class it is may raise: it is not configured, or there is no request.
    """
    try:
        core = core_of(value)
        return core if isinstance(core, Deferrable) else None
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None


def _module_path(file: str, name: str) -> str:
    """The name of the module in a file, as imported from the current directory."""
    relative = Path(os.path.relpath(file)).with_suffix("")
    where = " in the directory that holds it" if os.pardir in relative.parts else ""
    below = [part for part in relative.parts if part != os.pardir]
    if below[-1:] == ["__init__"] and len(below) > 1:
        del below[-1]
    return f"{'.'.join(below)}:{name or 'NAME'}{where}"


def instances_in(module_name: str) -> list[str]:
    """The paths of the instances at the top level of a module.

    Raises:
        CommandError: it cannot be imported.
    """
    return _instances_of(_import(module_name, module_name))


def _instances_of(module: Any) -> list[str]:
    return [
        f"{module.__name__}:{name}"
        for name, value in vars(module).items()
        if _instance_behind(value) is not None
    ]


def _proposal(module: Any) -> str:
    paths = _instances_of(module)
    if paths:
        return " or ".join(paths)
    return (
        f"the path of a module with an instance, because {module.__name__} has none "
        "(stats = Deferrable(...) at its top level)"
    )


def _import(module_name: str, path: str) -> Any:
    try:
        with noting_threads():
            return importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if is_absent(module_name, error):
            parent, _, name = module_name.rpartition(".")
            if path == module_name and name in vars(sys.modules.get(parent, object)):
                raise CommandError(
                    f"{path!r} has no colon before the name of the instance; write {parent}:{name}",
                    USAGE,
                ) from error
            raise CommandError(
                f"there is no module {getattr(error, 'name', module_name)!r} for {path}; run the "
                f"command in the directory that holds it (searched first: {sys.path[0] or '.'}), "
                "or set PYTHONPATH",
                USAGE,
            ) from error
        raise CommandError(
            f"importing {module_name} raised {describe(error)}; fix the module, or show the "
            "traceback with --debug",
            ERROR,
        ) from error


def is_absent(module_name: str, error: BaseException) -> bool:
    """Whether the module itself is missing, and not one that it imports."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return False
    return module_name == error.name or module_name.startswith(f"{error.name}.")
