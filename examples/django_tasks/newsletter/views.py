from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from .models import Subscriber
from .tasks import count_subscribers, welcome


@csrf_exempt
@require_POST
def subscribe(request: HttpRequest) -> JsonResponse:
    with transaction.atomic():  # the row and the call, or neither
        subscriber = Subscriber.objects.create(email=request.POST["email"])
        result = welcome.enqueue(subscriber.id)
    count_subscribers.enqueue()
    return JsonResponse({"subscriber": subscriber.id, "result": result.id}, status=202)


async def result(request: HttpRequest, result_id: str) -> JsonResponse:
    found = await welcome.aget_result(result_id)
    value = found.return_value if found.status == "SUCCESSFUL" else None
    return JsonResponse({"status": found.status, "value": value, "attempts": found.attempts})
