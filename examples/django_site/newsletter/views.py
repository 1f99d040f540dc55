from functools import partial

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_POST

from .jobs import welcome
from .models import Subscriber


@require_POST
@transaction.atomic
def subscribe(request: HttpRequest) -> JsonResponse:
    subscriber, _ = Subscriber.objects.get_or_create(email=request.POST["email"])
    if not subscriber.is_welcomed:
        # After the commit: a worker is fast, and would look for a row that is not there yet.
        transaction.on_commit(partial(welcome.later, subscriber.id))
    return JsonResponse({"id": subscriber.id}, status=202)
