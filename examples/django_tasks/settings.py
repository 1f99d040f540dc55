"""No more settings than the example needs."""

import os
from pathlib import Path

import django

DATABASE = os.environ.get("DATABASE", str(Path(__file__).parent / "db.sqlite3"))

DEBUG = True
SECRET_KEY = "for this example only"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "deferrable.contrib.django",
    "newsletter",
]
if django.VERSION < (6, 0):
    INSTALLED_APPS += ["django_tasks"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATABASE,
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True

TASKS = {
    "default": {
        "BACKEND": "deferrable.contrib.django.DeferrableBackend",
        "QUEUES": ["default", "mail"],
        # A call is a row of the same transaction as the subscriber, in the same file.
        "OPTIONS": {"push": "in_transaction", "keep_results_seconds": 3600},
    }
}
