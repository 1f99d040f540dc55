"""A task in a module that workers do not import by themselves."""

from deferrable.contrib.django import task


@task
def late() -> str:
    return "found"
