"""Reads `settings.ROOTSPAN`, in one place: settings of the default tracker, and the options of the middleware."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.functional import empty
from django.utils.module_loading import import_string

from rootspan import ConfigurationError
from rootspan.adapter import GroupedSettings, RequestOptions

_GROUP: Final = GroupedSettings("settings.ROOTSPAN")
_DOTTED: Final = {"tracker", "user_id", "convo_id", "properties", "exclude", "redact", "on_loss"}  # or a dotted path


def options() -> RequestOptions:
    """Return the middleware's options; they follow `override_settings`."""
    return _GROUP.options or load()


def load() -> RequestOptions:
    """Read `settings.ROOTSPAN`; what configures a tracker goes to the default one.

    Returns:
        The middleware's options.

    Raises:
        ConfigurationError: a setting is unknown, of the wrong type, or contradicts another.
    """
    given: Any = getattr(settings, "ROOTSPAN", None) or {}
    try:
        values = {name: _imported(name, value) for name, value in given.items()}
    except (AttributeError, ImportError) as error:
        fix = 'ROOTSPAN = {"service_name": "shop", "convo_id": "shop.tracking.convo_id"}'
        raise ConfigurationError(f"settings.ROOTSPAN cannot be read: {error}. Fix: {fix}") from error
    return _GROUP.apply({"user_id": evaluated_user, **values})


def _imported(name: Any, value: Any) -> Any:
    dotted = name in _DOTTED and isinstance(value, str) and not value.startswith(("/", "*"))
    return import_string(value) if dotted else value


def evaluated_user(request: Any) -> Any:
    """Return the key of the user that the application itself has looked up; never look one up."""
    for name in ("user", "_acached_user"):  # the second is where `await request.auser()` keeps it
        user = request.__dict__.get(name)
        if user is not None and getattr(user, "_wrapped", None) is not empty and user.is_authenticated:
            return user.pk if isinstance(user.pk, int) else str(user.pk)
    return None


@receiver(setting_changed)
def _changed(*, setting: str, **_: Any) -> None:
    if setting == "ROOTSPAN":
        load()
