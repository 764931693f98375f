"""Where everything is."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from django_support_desk import views

api = [
    path("login", views.api_login),
    path("tickets", views.api_tickets),
    path("tickets/<slug:reference>/messages", views.api_message),
    path("tickets/<slug:reference>/stream", views.api_stream),
    path("tickets/<slug:reference>/feedback", views.api_feedback),
]
urlpatterns = [
    path("", views.tickets, name="tickets"),
    path("tickets/<slug:reference>/", views.ticket, name="ticket"),
    path("tickets/<slug:reference>/judge", views.judge, name="judge"),
    path("accounts/login/", LoginView.as_view(), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("api/", include(api)),
]
