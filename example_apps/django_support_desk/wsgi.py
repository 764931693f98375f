"""For WSGI servers: `gunicorn django_support_desk.wsgi`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_support_desk.settings")
application = get_wsgi_application()
