"""Whether the options of a job go together, and whether the backend can do what they ask.

Owns what is refused when a job is decorated or gets other options, before any call. The checks of
single values are declared in `deferrable.options`.
"""

from dataclasses import fields

from deferrable.errors import InvalidOptions, Unsupported
from deferrable.options import OPTIONS, JobOptions

__all__ = ["NO_DEBOUNCE_STORE", "NO_RESULT_STORE", "check"]

_CHECKS = [
    (each.name, OPTIONS[each.name].check, each.default)
    for each in fields(JobOptions)
    if OPTIONS[each.name].check is not None
]

NO_DEBOUNCE_STORE = (
    "this backend cannot keep debounce windows; give the instance a redis_client= or a "
    "debounce_store=, which SQS and other backends without a store need"
)
NO_RESULT_STORE = (
    "this backend cannot keep results; give the instance a results=, such as RedisResults(...), "
    "which SQS and other backends without a store need"
)


def check(
    options: JobOptions,
    *,
    can_debounce: bool,
    can_keep_results: bool = True,
    can_be_unique: bool = True,
    can_deduplicate: bool = True,
) -> None:
    """Refuse what contradicts or is out of range, as far as it is known before a call.

    Args:
        can_debounce: the instance has a place to keep windows.
        can_keep_results: it has a place to keep results.
        can_be_unique: its queue keeps unique keys.
        can_deduplicate: its broker drops repeated calls.

    Raises:
        InvalidOptions: naming the option, its value and what to do.
        Unsupported: a unique call on a queue that keeps no keys.
    """
    for name, check_value, default in _CHECKS:
        value = getattr(options, name)
        if check_value is not None and (value is not None or default is not None):
            check_value(name, value)
    if options.keep_results_seconds and not can_keep_results:
        raise InvalidOptions(
            f"keep_results_seconds={options.keep_results_seconds!r}, but {NO_RESULT_STORE}"
        )
    if options.debounce_seconds and not can_debounce:
        raise InvalidOptions(
            f"debounce_seconds={options.debounce_seconds!r}, but {NO_DEBOUNCE_STORE}"
        )
    if options.unique and not can_be_unique:
        raise Unsupported(
            "this backend keeps no unique keys, so unique= does nothing here; the backends in "
            "memory, in Redis (Dockets) and in SQLite do"
        )
    if options.deduplication_id is not None and not can_deduplicate:
        raise Unsupported(
            f"deduplication_id={options.deduplication_id!r} is for FIFO queues in SQS, and this "
            "backend drops no repeated calls; unique= keeps an equal call out while one is "
            "pending, where the backend supports it"
        )
    _check_together(options)


def _check_together(options: JobOptions) -> None:
    if options.debounce_seconds and (options.delay_seconds or options.run_at is not None):
        raise InvalidOptions(
            "a call cannot be delayed and debounced at the same time (debounce delays by itself): "
            f"got delay_seconds={options.delay_seconds!r}, run_at={options.run_at!r}, "
            f"debounce_seconds={options.debounce_seconds!r}"
        )
    if options.delay_seconds and options.run_at is not None:
        raise InvalidOptions(
            f"run_at={options.run_at!r} and delay_seconds={options.delay_seconds!r} both say when "
            "to run; give one of them"
        )
    if options.unique_until != "end" and not options.unique:
        raise InvalidOptions(
            f"unique_until={options.unique_until!r} is an option to unique, which is not set"
        )
    for name in ("debounce_always_delay", "debounce_key"):
        if getattr(options, name) and not options.debounce_seconds:
            raise InvalidOptions(f"{name} is an option to debounce_seconds, which is not set")
