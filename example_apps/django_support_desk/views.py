"""Pages with forms for people, and the same in JSON for programs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth import authenticate, login
from django.contrib.auth.decorators import login_required
from django.core.handlers.asgi import ASGIRequest
from django.forms import Form
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.text import slugify
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

import rootspan
from django_support_desk import assistant, conversation
from django_support_desk.forms import FeedbackForm, LoginForm, MessageForm, TicketForm
from django_support_desk.models import Ticket

View = Callable[..., HttpResponse]


def ticket_of(request: HttpRequest) -> str | None:
    """A ticket is a conversation: what `ROOTSPAN["convo_id"]` names."""
    match = request.resolver_match
    return None if match is None else match.kwargs.get("reference")


@login_required
def tickets(request: HttpRequest) -> HttpResponse:
    form = TicketForm(request.POST or None)
    if form.is_valid():
        return redirect("ticket", opened(request, form).reference)
    return render(request, "desk/tickets.html", {"form": form, "tickets": Ticket.objects.filter(customer=request.user)})


@login_required
def ticket(request: HttpRequest, reference: str) -> HttpResponse:
    chosen = get_object_or_404(Ticket, customer=request.user, reference=reference)
    form = MessageForm(request.POST or None)
    if form.is_valid():
        try:
            conversation.reply(chosen, form.cleaned_data["message"])
        except assistant.OverloadedError as error:
            messages.error(request, str(error))
            return render(request, "desk/ticket.html", {"ticket": chosen, "form": form}, status=503)
        return redirect("ticket", reference)
    return render(request, "desk/ticket.html", {"ticket": chosen, "form": form})


@login_required
@require_POST
def judge(request: HttpRequest, reference: str) -> HttpResponse:
    form = FeedbackForm(request.POST)
    if form.is_valid():
        judged(form)
        messages.success(request, "Thank you.")
    return redirect("ticket", reference)


def opened(request: HttpRequest, form: Form) -> Ticket:
    subject = form.cleaned_data["subject"]
    reference = slugify(subject) or "ticket"
    count = Ticket.objects.filter(reference__startswith=reference).count()
    return Ticket.objects.create(
        customer=request.user, subject=subject, reference=f"{reference}-{count + 1}" if count else reference
    )


def judged(form: Form) -> str:
    given = form.cleaned_data
    return rootspan.track_feedback(given["span_id"], "thumbs", score=given["score"], comment=given["comment"] or None)


# For programs: a session cookie from /api/login, JSON in and out. No page can send JSON to another site unasked, so
# these need no CSRF token.


def takes(form_type: type[Form]) -> Callable[[View], View]:
    """Let a view take JSON, checked by a form."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @require_POST
        @wraps(view)
        def checked(request: HttpRequest, **arguments: Any) -> HttpResponse:
            if request.content_type != "application/json":
                return JsonResponse({"detail": "send JSON"}, status=415)
            try:
                given = json.loads(request.body)
            except ValueError:
                return JsonResponse({"detail": "that is no JSON"}, status=400)
            form = form_type(given if isinstance(given, dict) else {})
            if not form.is_valid():
                return JsonResponse({"detail": form.errors}, status=422)
            return view(request, form, **arguments)

        return checked

    return decorate


def signed_in(view: View) -> View:
    """Answer 401 to those who are not."""

    @wraps(view)
    def checked(request: HttpRequest, *given: Any, **arguments: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return JsonResponse({"detail": "log in first"}, status=401)
        return view(request, *given, **arguments)

    return checked


@takes(LoginForm)
def api_login(request: HttpRequest, form: Form) -> HttpResponse:
    user = authenticate(request, **form.cleaned_data)
    if user is None:
        return JsonResponse({"detail": "wrong name or password"}, status=403)
    login(request, user)
    return JsonResponse({"name": user.get_username()})


@takes(TicketForm)
@signed_in
def api_tickets(request: HttpRequest, form: Form) -> HttpResponse:
    return JsonResponse({"reference": opened(request, form).reference}, status=201)


@takes(MessageForm)
@signed_in
def api_message(request: HttpRequest, form: Form, reference: str) -> HttpResponse:
    chosen = get_object_or_404(Ticket, customer=request.user, reference=reference)
    try:
        answer = conversation.reply(chosen, form.cleaned_data["message"])
    except assistant.OverloadedError as error:
        return JsonResponse({"detail": str(error)}, status=503, headers={"Retry-After": "5"})
    return JsonResponse({"reply": answer.text, "span_id": answer.span_id})


@takes(MessageForm)
@signed_in
def api_stream(request: HttpRequest, form: Form, reference: str) -> StreamingHttpResponse:
    chosen = get_object_or_404(Ticket, customer=request.user, reference=reference)
    events = conversation.stream(chosen, form.cleaned_data["message"])
    is_async = isinstance(request, ASGIRequest)  # each kind of server streams from its own kind of iterator
    return StreamingHttpResponse(in_a_thread(events) if is_async else events, content_type="text/event-stream")


async def in_a_thread(events: Iterator[str]) -> AsyncIterator[str]:
    """Step a sync iterator, which uses the database, from an async server."""
    try:
        while (event := await sync_to_async(next)(events, None)) is not None:
            yield event
    finally:
        await sync_to_async(events.close)()


@takes(FeedbackForm)
@signed_in
def api_feedback(request: HttpRequest, form: Form, reference: str) -> HttpResponse:
    return JsonResponse({"span_id": judged(form)})
