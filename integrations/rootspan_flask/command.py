"""`flask rootspan check`: one test event with the configuration that the app has."""

from __future__ import annotations

from flask import current_app
from flask.cli import AppGroup

__all__ = ["rootspan_command"]

rootspan_command = AppGroup("rootspan", help="Tracking for AI products on OpenTelemetry.")


@rootspan_command.command("check")
def check() -> None:
    """Send one test event with the app's configuration, and say what happened."""
    from rootspan_ui.check import check

    raise SystemExit(check(settings=current_app.extensions["rootspan"].tracker_now.settings))
