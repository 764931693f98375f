"""`manage.py seed`: the tables, three customers and their orders; what is there stays."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from django_support_desk.models import Order

ORDERS = {1042: "left the warehouse this morning", 1077: "waits for its payment", 1099: "was delivered on Monday"}


class Command(BaseCommand):
    """Makes a database that can be shown."""

    help = "Make the tables, three customers and their orders."

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        for name in ("barbara", "edsger", "radia"):
            user, is_new = get_user_model().objects.get_or_create(username=name)
            if is_new:
                user.set_password("desk")
                user.save()
        for number, state in ORDERS.items():
            Order.objects.get_or_create(number=number, defaults={"state": state})
