"""What `INSTALLED_APPS += ["rootspan_django"]` does: the middleware is put on top, settings are read and checked."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string

from rootspan import ConfigurationError
from rootspan.log import log
from rootspan_django.configuration import load, options

_MIDDLEWARE: Final = "rootspan_django.middleware.RootspanMiddleware"


class RootspanConfig(AppConfig):
    """The Django app; it has no models, templates or URLs."""

    name = "rootspan_django"

    def ready(self) -> None:
        """Put the middleware above all others unless it is listed, and configure the default tracker."""
        listed = settings.MIDDLEWARE
        if _MIDDLEWARE not in listed:
            settings.MIDDLEWARE = type(listed)([_MIDDLEWARE, *listed])
        register(_check_settings, "rootspan")
        register(_check_middleware, "rootspan")
        register(_check_deployment, "rootspan", deploy=True)
        for mistake in _check_settings():  # a server's middleware raises it, manage.py shows it as E001
            log(logging.ERROR, "%s\nFix: %s", mistake.msg, mistake.hint)


def _check_settings(**_: Any) -> Iterator[CheckMessage]:
    try:
        load()
    except ConfigurationError as error:
        said = str(error).split("Fix: ", 1)
        yield Error(said[0].rstrip(), said[-1], id="rootspan.E001")


def _check_middleware(**_: Any) -> Iterator[CheckMessage]:
    listed = list(settings.MIDDLEWARE)
    if listed[:1] != [_MIDDLEWARE]:
        fix = f'Put "{_MIDDLEWARE}" first in MIDDLEWARE, or leave that to the app by not listing it.'
        said = "The first line of MIDDLEWARE is not rootspan's; what happens outside of that one is not recorded."
        yield Warning(said, fix, id="rootspan.W002")
    for name in listed if getattr(settings, "ASGI_APPLICATION", None) else ():
        with suppress(ImportError):  # Django says so itself
            if not getattr(import_string(name), "async_capable", False):
                said = f"{name} is sync-only, so under ASGI every request takes a thread for it."
                yield Warning(said, "Make it async_capable, or silence this id.", id="rootspan.W003")


def _check_deployment(**_: Any) -> Iterator[CheckMessage]:
    for said, fix in () if any(_check_settings()) else options().tracker_now.settings.gaps():
        yield Warning(said, fix, id="rootspan.W004")
