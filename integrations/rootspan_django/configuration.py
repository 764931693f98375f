"""Reads `settings.ROOTSPAN`, in one place: settings of the default tracker, and the options of the middleware."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.functional import empty

from rootspan.adapter import GroupedSettings, RequestOptions

_GROUP: Final = GroupedSettings("settings.ROOTSPAN")


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
    return _GROUP.apply(getattr(settings, "ROOTSPAN", None), user_id=evaluated_user)


def evaluated_user(request: Any) -> Any:
    """Return the key of the user that the application itself has looked up; never look one up."""
    # The second is where `await request.auser()` keeps it.
    for who in (request.__dict__.get("user"), request.__dict__.get("_acached_user")):
        if who is not None and getattr(who, "_wrapped", None) is not empty and getattr(who, "is_authenticated", False):
            return who.pk if isinstance(who.pk, int | None) else str(who.pk)
    return None


@receiver(setting_changed)
def _changed(*, setting: str, **_: Any) -> None:
    if setting == "ROOTSPAN":
        load()
