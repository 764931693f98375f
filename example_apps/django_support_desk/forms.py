"""What a customer fills in, on the pages and in JSON alike."""

from __future__ import annotations

from django import forms


class LoginForm(forms.Form):
    """Says who it is."""

    username = forms.CharField()
    password = forms.CharField(strip=False)


class TicketForm(forms.Form):
    """Opens a ticket."""

    subject = forms.CharField(max_length=100, label="What is it about?")


class MessageForm(forms.Form):
    """Says something about it."""

    message = forms.CharField(max_length=2_000, label="Your message", widget=forms.Textarea(attrs={"rows": 3}))


class FeedbackForm(forms.Form):
    """Judges an answer."""

    span_id = forms.RegexField("^[0-9a-f]{16}$")
    score = forms.IntegerField(min_value=-1, max_value=1)
    comment = forms.CharField(max_length=500, required=False)
