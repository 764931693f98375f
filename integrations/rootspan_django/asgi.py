"""A lifespan for Django under ASGI, so that a graceful stop of the server loses nothing."""

from typing import Any

from asgiref.sync import sync_to_async

from rootspan.adapter import deliver_at_end
from rootspan_django.configuration import options


def with_lifespan(application: Any) -> Any:
    """Answer the server's lifespan messages, which Django does not, and deliver everything at shutdown.

    uvicorn ends its process with the signal that it was stopped with, so nothing else runs at the end of it.

    Args:
        application: what `get_asgi_application()` returned.

    Example:
        >>> application = with_lifespan(lambda scope, receive, send: ...)  # in asgi.py, around get_asgi_application()
    """

    async def serve(scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] != "lifespan":
            return await application(scope, receive, send)
        for kind in ("startup", "shutdown"):
            await receive()
            if kind == "shutdown":
                await sync_to_async(deliver_at_end, thread_sensitive=False)(options().tracker)
            await send({"type": f"lifespan.{kind}.complete"})

    return serve
