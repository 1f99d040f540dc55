"""A Django site whose tasks run in workers of deferrable.

It shows tasks that are enqueued in the transaction of a row, their results, and the dashboard for
the staff of the admin. Database and queue are SQLite files. Run it::

    cd examples/django_tasks
    python manage.py migrate --run-syncdb
    python manage.py createsuperuser
    uvicorn asgi:application
    python manage.py deferrable worker
    curl -d email=ada@example.org http://127.0.0.1:8000/subscribe
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    execute_from_command_line(sys.argv)
