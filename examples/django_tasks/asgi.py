import os

from django.core.asgi import get_asgi_application

from deferrable.contrib.django import with_dashboard

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

application = with_dashboard(get_asgi_application(), "/admin/deferrable", allow_actions=True)
