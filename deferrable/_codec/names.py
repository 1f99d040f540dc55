"""The name of a function or a class in an item: ``module:qualname``.

Owns that name, the name that ``__main__`` has in other processes, and the check whether another
process could find an object by its name. The one rule: no name causes an import. Only loaded
modules are searched, and a script's own file is recognized by asking the import system where it
*would* find it.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from inspect import getattr_static
from types import ModuleType

MAIN_NAMES = frozenset({"__main__", "__mp_main__"})
"""The names of the program's own module; the second in a child of multiprocessing's spawn."""

CLASS_METHODS_BIND_JOBS = sys.version_info < (3, 13)
"""Whether ``classmethod`` lets the wrapped object bind itself. Source: What's New In Python 3.13.
"""

_UNKNOWN_MODULE = "<unknown>"


def canonical_main() -> str | None:
    """Return the name under which other processes can import this program's ``__main__``.

    That is the name in ``__main__.__spec__`` (``python -m package.module``) or, for a script,
    the name of its file, if importing that name would find this very file.

    Returns:
        The module's name; None for a notebook, a shell, a zip application, or a script that
        lies where imports do not look.
    """
    main = sys.modules.get("__main__")
    candidate = _candidate_for_main(main)
    if candidate is None or main is None or _spec_name(main) is not None:
        return candidate
    return candidate if _is_file_of(main, candidate) else None


def importable_main(path: str) -> str:
    """Return the name by which others import the module of ``path``, which lives in ``__main__``.

    Raises:
        LookupError: there is no such name, or ``path`` does not lead anywhere in it.
    """
    name = canonical_main()
    if name is None:
        raise LookupError(
            f"{path} is defined in __main__, which no other process can import by that name; move "
            f"it into another module, or start the program with python -m"
        )
    if not _look_up(sys.modules["__main__"], path):
        raise LookupError(f"module {name} has nothing with the name {path}")
    return name


def is_main(module_name: str) -> bool:
    """Whether ``module_name`` means this program's ``__main__``, under any name.

    A program run as ``python worker.py`` must meet its own classes under ``worker``, not import
    its file a second time. Cheap for every other name: the file system is asked only when the
    name fits.
    """
    if module_name in MAIN_NAMES:
        return True
    if module_name != _candidate_for_main(sys.modules.get("__main__")):
        return False
    return canonical_main() == module_name


def _candidate_for_main(main: ModuleType | None) -> str | None:
    if main is None:
        return None
    name = _spec_name(main)
    if name is not None:
        return name
    file = getattr(main, "__file__", None)
    if not isinstance(file, str):
        return None
    stem = os.path.splitext(os.path.basename(file))[0]
    return stem if stem.isidentifier() and stem not in MAIN_NAMES else None


def _spec_name(main: ModuleType) -> str | None:
    name = getattr(getattr(main, "__spec__", None), "name", None)
    # A directory or zip file that is run has a spec too, but nobody can import its "__main__".
    return name if isinstance(name, str) and name not in MAIN_NAMES else None


def _is_file_of(main: ModuleType, name: str) -> bool:
    try:
        spec = find_spec(name)
        return (
            spec is not None
            and spec.origin is not None
            and os.path.samefile(spec.origin, str(main.__file__))
        )
    except (ImportError, AttributeError, ValueError, OSError):
        return False


def module_of(obj: object) -> str:
    """Return the name of the module that ``obj`` says it was defined in."""
    named = obj if _own_name(obj) is not None else type(obj)
    module = getattr(named, "__module__", None)
    return module if isinstance(module, str) else _UNKNOWN_MODULE


def qualname_of(obj: object) -> str:
    """Return the dotted path of ``obj`` inside its module; for an instance, its class's."""
    return _own_name(obj) or type(obj).__qualname__


def _own_name(obj: object) -> str | None:
    for attribute in ("__qualname__", "__name__"):
        name = getattr(obj, attribute, None)
        if isinstance(name, str):
            return name
    return None


def name_of(obj: object) -> str:
    """Return the best name for ``obj``: ``module:qualname``.

    An object of ``__main__`` gets the name that others can import, and ``__main__:qualname`` only
    if there is none. A name does not promise that others find the object: see ``why_unnameable``
    and ``why_unfindable``.
    """
    module = module_of(obj)
    if module in MAIN_NAMES:
        module = canonical_main() or "__main__"
    return f"{module}:{qualname_of(obj)}"


def why_ambiguous(obj: object) -> str | None:
    """Say why ``obj`` has no unique name, not even in this process.

    Returns:
        A clause to put after "because"; None if it has one.
    """
    name = _own_name(obj)
    if name is None:
        return f"it is an object of class {type(obj).__qualname__} without a name"
    if "<lambda>" in name:
        return "it is a lambda, and lambdas have no name"
    if "<locals>" in name:
        outer = name.split(".<locals>")[0]
        return f"it is defined inside the function {outer}, where no other process can reach it"
    return None


def why_unnameable(obj: object) -> str | None:
    """Say why no other process can find ``obj``, judging by its name alone.

    This part can be checked at decoration, when the module does not hold the function yet.

    Returns:
        A clause to put after "because"; None if the name is one that can be looked up.
    """
    reason = why_ambiguous(obj)
    if reason is not None:
        return reason
    module = module_of(obj)
    if module == _UNKNOWN_MODULE:
        return "it does not say in which module it was defined"
    if module in MAIN_NAMES and canonical_main() is None:
        return "it is defined in __main__, which no other process can import by that name"
    return None


def why_unfindable(obj: object, expected: object = None) -> str | None:
    """Say why looking up the name of ``obj`` would not lead back to it.

    Args:
        obj: the function or class that is sent by name.
        expected: what its module should hold under that name, if that is not ``obj`` itself:
            the job that wraps a function. Either is accepted, and whatever else wraps one of
            them (``__wrapped__``), as another decorator above ours does.

    Returns:
        A clause to put after "because"; None if the lookup leads back.
    """
    reason = why_unnameable(obj)
    if reason is not None:
        return reason
    module_name, path = module_of(obj), qualname_of(obj)
    module = sys.modules.get("__main__" if module_name in MAIN_NAMES else module_name)
    if module is None:
        return f"its module {module_name} is not loaded under that name"
    found = _look_up(module, path)
    if not found:
        return f"module {module_name} has nothing with the name {path}"
    wanted = [obj] if expected is None else [obj, expected]
    if any(layer is goal for layer in _layers(found) for goal in wanted):
        return None
    return f"module {module_name} has something else with the name {path}"


def why_classless(obj: object) -> str | None:
    """Say why a job of ``obj`` would run without its class, if its name leads to a class method.

    Returns:
        A clause to put after "because"; None if there is nothing to say.
    """
    if CLASS_METHODS_BIND_JOBS:
        return None
    module_name = module_of(obj)
    module = sys.modules.get("__main__" if module_name in MAIN_NAMES else module_name)
    found = [] if module is None else _look_up(module, qualname_of(obj))
    if found and isinstance(found[1], classmethod):
        return "since Python 3.13 a decorated class method does not get its class"
    return None


def why_not_imported(name: str, prefixes: Iterable[str] | None) -> str | None:
    """Say why nothing may be imported for a name from elsewhere.

    Importing runs a module, and with ``package.__main__`` a program. Other processes must not use
    private names.

    Args:
        name: as an item holds it.
        prefixes: names of packages and modules, each with a dot at its end; only these and what
            is in them is imported. None: any.

    Returns:
        A clause to put after "because"; None if it may be imported.
    """
    module, colon, path = name.partition(":")
    parts = [*module.split("."), *path.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        return "it is not module:qualname"
    private = next((part for part in parts if part.startswith("_")), None)
    if private is not None:
        return f"{private:.80} is private"
    if prefixes is not None and not any(f"{module}.".startswith(prefix) for prefix in prefixes):
        allowed = ", ".join(prefixes)
        if not allowed:
            return "import_from allows nothing, its default where accept names no kind of pickle"
        return f"import_from allows only {allowed}"
    return None


def _look_up(module: ModuleType, path: str) -> list[object]:
    """Return the object at ``path``, as an attribute and as it is stored; empty if none."""
    parent: object = module
    *parents, last = path.split(".")
    try:
        for part in parents:
            parent = getattr(parent, part)
        return [getattr(parent, last), getattr_static(parent, last, None)]
    except AttributeError:
        return []


def _layers(found: list[object]) -> Iterator[object]:
    """Yield each object and what it wraps, outermost first."""
    for outermost in found:
        layer, seen = outermost, set[int]()
        while layer is not None and id(layer) not in seen:
            yield layer
            seen.add(id(layer))
            layer = getattr(layer, "__wrapped__", None)


def class_names(error: BaseException) -> frozenset[str]:
    """Return every name that a policy may have recorded for the class of ``error`` or a base.

    Each class of the MRO counts under ``module:qualname``, under ``module:name`` (all that
    Python 2 recorded), and what lives in ``__main__`` also under the name others import it by.
    """
    names = set[str]()
    for cls in type(error).__mro__:
        modules = {cls.__module__}
        if cls.__module__ in MAIN_NAMES:
            modules.add("__main__")
            modules.update(filter(None, [canonical_main()]))
        for module in modules:
            names.add(f"{module}:{cls.__qualname__}")
            names.add(f"{module}:{cls.__name__}")
    return frozenset(names)
