"""Loads `everywhere` into the processes of Django's own test runner, which knows no plugins."""

from __future__ import annotations

import os

if os.environ.get("TRANSPARENCY_SUITE") == "django":
    import atexit

    import everywhere

    everywhere.note_unittest_outcomes()
    if everywhere.WITH:
        everywhere.into_django()
    atexit.register(everywhere.tracker.shutdown)
