"""The item for a new call.

Owns its fields, and the part of them that is the same for every call of a job and is made once.
"""

from collections.abc import Mapping
from typing import Any

from deferrable._arguments import mismatch
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.registry import RegisteredJob
from deferrable.debounce import identity, identity_of_key
from deferrable.errors import InvalidOptions
from deferrable.item import Item, new_id
from deferrable.lifecycle import add_ttl, set_delay
from deferrable.options import JobOptions, ResolvedOptions, are_constant, item_fields, resolve

__all__ = ["ItemTemplate", "set_first_delay", "template_of"]


class ItemTemplate:
    """The common part of the items of one job's calls, while its sources do not change."""

    __slots__ = (
        "_attempts",
        "_binder",
        "_call_id",
        "_checked",
        "_classes",
        "_fields",
        "_group",
        "_instance",
        "_job",
        "_options",
        "_resolved",
        "_unique",
    )

    def __init__(self, instance: Instance, job: RegisteredJob, options: JobOptions) -> None:
        self._instance = instance
        self._job = job
        self._options = options
        checks = instance.check_arguments
        self._binder = job.binder if checks else None
        self._checked = job.function if checks else None
        self._group = instance.backend.group
        self._classes = instance.default_error_classes
        self._attempts = instance.default_max_attempts
        classes = options.error_classes
        if classes is None:
            classes = self._classes
        attempts = options.max_attempts
        self._fields: Item = {
            **instance.serializer.dump_error_classes(classes),
            "group": self._group,
            "attempts": 0,
            "max_attempts": self._attempts if attempts is None else attempts,
            "original_debounce_always_delay": options.debounce_always_delay,
            "original_delay": 0,
            "delay": 0,
            "use_exponential_backoff": options.use_exponential_backoff,
            **item_fields(options),
        }
        if options.keep_results_seconds is None and instance.keep_results_seconds:
            self._fields["keep_results_seconds"] = instance.keep_results_seconds
        self._resolved = resolve(options, 0) if are_constant(options) else None
        self._unique = options.unique
        self._call_id = options.call_id

    def matches(self, instance: Instance, options: JobOptions) -> bool:
        """Whether it was made from these, and from the current settings of the instance."""
        return (
            self._options is options
            and self._group == instance.backend.group
            and self._classes is instance.default_error_classes
            and self._attempts == instance.default_max_attempts
        )

    def make_item(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], now: float
    ) -> tuple[ResolvedOptions, Item]:
        """The seconds of a call of the job, and a new item for it.

        Raises:
            InvalidOptions: an option that is a callable returned a value out of range.
            UnserializableCall: no other process could run the call, or its key cannot be compared.
            ArgumentMismatch: the function would reject it.
        """
        resolved, job = self._resolved, self._job
        job.check_findable(is_local=self._instance.backend.queue.IS_LOCAL)
        if self._binder is not None:
            try:
                self._binder(*args, **kwargs)
            except TypeError as error:
                raise mismatch(job.name, job.function, error) from error
        if resolved is None:
            resolved = resolve(self._options, now)
        item = {
            "id": self._call_id or new_id(),
            **self._instance.serializer.dump_call(job.name, args, kwargs, self._checked),
            **self._fields,
            "first_push_time": now,
            "last_push_time": now,
            "original_delay_seconds": resolved.delay_seconds,
            "original_debounce_seconds": resolved.debounce_seconds,
        }
        if self._unique:
            item["unique_key"] = self._unique_key(args, kwargs)
        if resolved.ttl_seconds:
            add_ttl(item, resolved.ttl_seconds, now)
        if resolved.delay_seconds:
            set_first_delay(self._instance, item, resolved.delay_seconds, now)
        return resolved, item

    def _unique_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        make, group, name = self._unique, self._group, self._job.name
        if not callable(make):
            return identity(group, name, args, kwargs)
        key = make(*args, **kwargs)
        if key is None:
            raise InvalidOptions(
                f"the callable given as unique= for {name} returned None, which all calls would "
                "share; does it lack a return?"
            )
        return identity_of_key(group, name, key)


def template_of(instance: Instance, job: RegisteredJob, options: JobOptions) -> ItemTemplate:
    """The current common part of the items of the job's calls; kept with the job.

    Raises:
        InvalidOptions: error classes that the serializer cannot name.
    """
    template = job.template
    if not isinstance(template, ItemTemplate) or not template.matches(instance, options):
        template = ItemTemplate(instance, job, options)
        job.template = template
    return template


def set_first_delay(instance: Instance, item: Item, seconds: float, now: float) -> None:
    """Make a new item due `seconds` from `now`."""
    set_delay(item, seconds, now, instance.backend.queue.MAX_DELAY_SECONDS)
    item["original_delay"] = seconds
