"""`manage.py rootspan check`: one test event with the project's settings, and in plain words what became of it."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from rootspan_django.configuration import options as web_options


class Command(BaseCommand):
    """Tells whether the endpoint takes what this project sends; exits with 0 if it does."""

    help = "Send one test event with this project's settings, and say what became of it."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add what there is to do."""
        parser.add_argument("action", choices=["check"], help="send one test event")

    def handle(self, *args: Any, **options: Any) -> None:
        """Send the event; exit with the status of `rootspan check` unless it is 0."""
        from rootspan_ui.check import check  # not needed by any other command

        out: Any = self.stdout  # which is almost a TextIO
        out.ending = ""
        if status := check(out=out, settings=web_options().tracker_now.settings):
            sys.exit(status)
