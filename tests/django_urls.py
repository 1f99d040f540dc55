"""The addresses of the site that tests make."""

from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django_app.models import Note
from django_app.tasks import add


def enqueue(request: HttpRequest) -> Any:
    Note.objects.create(text="from a request")
    result = add.enqueue(1)
    if "fail" in request.GET:
        raise RuntimeError("after enqueue")
    return HttpResponse(result.id)


@transaction.non_atomic_requests
async def aenqueue(request: HttpRequest) -> Any:
    return HttpResponse((await add.aenqueue(2)).id)


urlpatterns = [
    path("enqueue", enqueue),
    path("aenqueue", aenqueue),
    path("enter", enqueue, name="enter"),
]
