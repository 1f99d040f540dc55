"""A Django site that defers jobs in its views, and a management command that runs them.

It shows ``later`` after the commit, what a job needs in order to use the ORM in a worker's thread,
and a command that a supervisor stops with SIGTERM. Run it, with a Redis on localhost or at
``$REDIS_URL``::

    cd examples/django_site
    python manage.py migrate --run-syncdb
    python manage.py runserver
    python manage.py run_worker
    curl -d email=ada@example.org http://127.0.0.1:8000/subscribe
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    execute_from_command_line(sys.argv)
