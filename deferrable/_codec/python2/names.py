"""Names of Python 2's modules and globals, and their Python 3 names.

Owns the rules for names, of errors as of anything else. It never imports or looks up a name. The
one rule: names of Python 3 are written ``module:name``, as ``names`` writes them.
"""

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING


def python3_name(module: str, name: str) -> str:
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}:{name}"


def is_python2_name(name: str) -> bool:
    return name.isascii() and name.isidentifier()


def is_python2_path(module: str) -> bool:
    return all(map(is_python2_name, module.split(".")))
