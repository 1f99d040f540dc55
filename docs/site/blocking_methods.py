"""What griffe cannot read in the blocking API: ``push = blocking(Queue.push)`` is a method.

Owns the translation of these lines, with the signature and the docstring of the method that is
awaited. `griffe` loads it as an extension.
"""

import griffe

__all__ = ["BlockingMethods"]


class BlockingMethods(griffe.Extension):
    """Makes functions of the attributes that are made by ``blocking``."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: object) -> None:
        if pkg.path == "deferrable":
            for module in pkg["sync"].modules.values():
                for made in module.classes.values():
                    if not made.is_alias:
                        translate(made)


def translate(facade: griffe.Class) -> None:
    """Put a method in the place of each attribute that stands for one."""
    for name, attribute in list(facade.attributes.items()):
        value = attribute.value
        if not isinstance(value, griffe.ExprCall) or str(value.function) != "blocking":
            continue
        awaited = facade.modules_collection[value.arguments[0].canonical_path]
        facade[name] = function = griffe.Function(
            name,
            lineno=attribute.lineno,
            endlineno=attribute.endlineno,
            parameters=awaited.parameters,
            returns=awaited.returns,
            docstring=awaited.docstring,
        )
        function.labels |= awaited.labels - {"async", "abstractmethod"}
