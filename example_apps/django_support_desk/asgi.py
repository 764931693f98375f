"""For ASGI servers: `uvicorn django_support_desk.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

from rootspan_django.asgi import with_lifespan

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_support_desk.settings")
application = with_lifespan(get_asgi_application())
