from django.contrib import admin
from django.urls import path
from newsletter.views import result, subscribe

urlpatterns = [
    path("subscribe", subscribe),
    path("results/<str:result_id>", result),
    path("admin/", admin.site.urls),
]
