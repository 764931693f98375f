"""`manage.py serve`: a database of its own, three customers, and Django's server."""

from __future__ import annotations

import signal
import sys
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

import rootspan
from django_support_desk import assistant


class Command(BaseCommand):
    """Serves the support desk until Ctrl-C or SIGTERM."""

    help = "Make the database, and serve the support desk."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("address", nargs="?", default="127.0.0.1:8000", help="host:port")

    def handle(self, *args: Any, address: str, **options: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # else Python ends without delivering what is tracked
        call_command("seed", verbosity=0)
        rootspan.calculate_cost(assistant.NAME, {"input_tokens": 1})  # loads the price list now, not in a request
        self.stdout.write(
            f"The support desk is at http://{address}/ - log in as barbara, edsger or radia, password: desk"
        )
        call_command("runserver", address, use_reloader=False)
