"""The tasks of the site. Views enqueue them, and ``manage.py deferrable worker`` runs them."""

from deferrable.contrib.django import task

from .models import Subscriber


@task(queue_name="mail", max_attempts=5, timeout_seconds=60)
def welcome(subscriber_id: int) -> str:
    subscriber = Subscriber.objects.get(id=subscriber_id)
    if not subscriber.is_welcomed:  # at least once: a second run finds that all is done
        # Call your mail server here.
        subscriber.is_welcomed = True
        subscriber.save(update_fields=["is_welcomed"])
    return f"Welcome, {subscriber.email}!"


@task(debounce_seconds=60)
async def count_subscribers() -> int:
    return await Subscriber.objects.acount()
