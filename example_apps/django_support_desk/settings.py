"""The project's settings. What rootspan needs is its line in INSTALLED_APPS, and ROOTSPAN."""

import os
from pathlib import Path

FOLDER = Path(__file__).parent

DEBUG = "SUPPORT_DESK_DEBUG" in os.environ
SECRET_KEY = os.environ.get("SUPPORT_DESK_SECRET_KEY", "an example's key, known to everybody")
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django_support_desk",
    "rootspan_django",
]
ROOTSPAN = {  # sends to ROOTSPAN_ENDPOINT, or to http://localhost:4318
    "service_name": "support-desk",
    "convo_id": "django_support_desk.views.ticket_of",
    "response_header": "x-trace-id",
}
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

ROOT_URLCONF = "django_support_desk.urls"
ASGI_APPLICATION = "django_support_desk.asgi.application"
WSGI_APPLICATION = "django_support_desk.wsgi.application"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "tickets"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SUPPORT_DESK_DATABASE", FOLDER / "support_desk.sqlite3"),
        "OPTIONS": {"timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [FOLDER / "templates"],
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
USE_TZ = True
TIME_ZONE = "UTC"
