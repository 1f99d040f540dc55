"""What a module or a global of Python 2 may be called, and what Python 3 calls it.

Owns the rules for names, of errors as of anything else. May not import or look up what a name
says. The one rule: names of Python 3 are written ``module:name``, as ``names`` writes them.
"""

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING


def python3_name(module: str, name: str) -> str:
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}:{name}"


def is_python2_name(name: str) -> bool:
    return name.isascii() and name.isidentifier()


def is_python2_path(module: str) -> bool:
    return all(map(is_python2_name, module.split(".")))
