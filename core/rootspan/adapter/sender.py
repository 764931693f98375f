"""Who sent a request, as headers tell: the address behind proxies, the span in the sender's trace, the conversation."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final, TypeAlias

__all__ = ["Trust", "client_address", "sender_convo", "sender_ids", "trust"]

# Version ff is none, and version 00 ends with the flags; what a later one adds after them is not looked at.
_TRACEPARENT: Final = re.compile(r"(?!ff|00.{53}.)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_CONVO: Final = re.compile(r"[\w.:@/+=~-]{1,250}")
_MOST_HOPS: Final = 30
Trust: TypeAlias = "Callable[[IPv4Address | IPv6Address | None], bool]"


def trust(proxies: Sequence[str]) -> Trust:
    """Return what tells whether a peer is a trusted proxy.

    Args:
        proxies: addresses and networks, `10.0.0.0/8`; `*` is anybody, a peer behind a unix socket too.

    Raises:
        ValueError: one of them is neither an address nor a network.
    """
    # As text, for a number would be an address as well.
    networks = [ip_network(str(proxy), strict=False) for proxy in proxies if proxy != "*"]
    if "*" in proxies:
        return lambda address: True
    return lambda address: address is not None and any(address in network for network in networks)


def client_address(peer: str | None, forwarded: str | None, trusted: Trust) -> str | None:
    """Return the last address on the way to us that is no trusted proxy's.

    Args:
        peer: who holds the connection; None for a unix socket.
        forwarded: the `X-Forwarded-For` header; each proxy appends the address that it saw.
        trusted: whether an address is a proxy of ours.

    Example:
        >>> client_address("10.0.0.1", "6.6.6.6, 203.0.113.9", trust(["10.0.0.0/8"]))
        '203.0.113.9'
        >>> client_address("198.51.100.2", "203.0.113.9", trust(["10.0.0.0/8"]))
        '198.51.100.2'
    """
    address = _peer(peer or "")
    hops = (forwarded or "").rsplit(",", _MOST_HOPS)
    while hops and trusted(address):
        hop = _parsed(hops.pop())
        if hop is None:
            break
        address = hop
    return peer or None if address is None else str(address)


def _parsed(text: str) -> Any:
    text = text.strip().strip('"')
    if text.startswith("["):  # [2001:db8::1]:4711
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # 203.0.113.9:4711
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


_peer: Final = lru_cache(maxsize=1_024)(_parsed)  # the same few proxies, or a client's connection kept open


def sender_ids(traceparent: str) -> str | None:
    """Return trace id and span id, 48 characters, that a `traceparent` header of W3C Trace Context names.

    Returns:
        None for what names none.

    Example:
        >>> sender_ids("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        '0af7651916cd43dd8448eb211c80319cb7ad6b7169203331'
        >>> sender_ids("hostile")
    """
    match = _TRACEPARENT.fullmatch(traceparent[:200])
    if match is None or not match[1].strip("0") or not match[2].strip("0"):
        return None
    return match[1] + match[2]


def sender_convo(value: str | None) -> str | None:
    """Return the conversation that a header names; None where it is not clean.

    Example:
        >>> sender_convo(" c-1.2:3 ")
        'c-1.2:3'
        >>> sender_convo("two words")
    """
    value = (value or "").strip()
    return value if _CONVO.fullmatch(value) else None
