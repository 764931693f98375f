"""What the support desk knows: orders, and tickets with what was said about them."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Order(models.Model):
    """Something that a customer bought."""

    number = models.PositiveIntegerField(unique=True)
    state = models.CharField(max_length=100)

    def __str__(self) -> str:
        return f"order {self.number} {self.state}"


class Ticket(models.Model):
    """One conversation with a customer."""

    customer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    subject = models.CharField(max_length=100)
    reference = models.SlugField(max_length=120, unique=True)
    opened = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Newest first."""

        ordering = ("-opened",)

    def __str__(self) -> str:
        return self.subject


class Message(models.Model):
    """What the customer or the assistant said."""

    ticket = models.ForeignKey(Ticket, on_delete=models.CASCADE, related_name="messages")
    role = models.CharField(max_length=10)  # "user" or "assistant"
    text = models.TextField()
    span_id = models.CharField(max_length=16, blank=True)  # of the answer, for feedback about it

    class Meta:
        """In the order in which it was said."""

        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.role}: {self.text}"
