"""Whose address a request has, where proxies stand in between, and which span of the sender's it came from."""

from __future__ import annotations

import pytest

from rootspan.adapter.sender import client_address, sender_ids, trust

PROXIES = ["10.0.0.0/8", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "wanted"),
    [
        ("198.51.100.2", "203.0.113.9", "198.51.100.2"),  # not a proxy of ours
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", '"[2001:db9::7]:4711"', "2001:db9::7"),
        ("2001:db8::1", "2001:db9::7", "2001:db9::7"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.9", "10.0.0.9"),
        ("10.0.0.1", "unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", ",,", "10.0.0.1"),
        ("10.0.0.1", "x" * 10_000, "10.0.0.1"),
        ("10.0.0.1", ",".join(["10.0.0.2"] * 5_000), "10.0.0.2"),
        ("/run/app.sock", "203.0.113.9", "/run/app.sock"),
        (None, "203.0.113.9", None),
    ],
)
def test_web_85_a_forwarded_address_counts_as_far_as_it_is_vouched_for(
    peer: str | None, forwarded: str | None, wanted: str | None
) -> None:
    assert client_address(peer, forwarded, trust(PROXIES)) == wanted


def test_a_network_may_be_named_by_one_of_its_addresses() -> None:
    assert client_address("10.9.8.7", "203.0.113.9", trust(["10.0.0.1/8"])) == "203.0.113.9"


def test_anybody_may_be_trusted() -> None:
    assert client_address(None, "203.0.113.9, 10.0.0.2", trust(["*"])) == "203.0.113.9"


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        trust(["nowhere"])


SENDER = f"{'ab' * 16}-{'cd' * 8}-01"


@pytest.mark.parametrize(
    ("traceparent", "known"),
    [
        (f"00-{SENDER}", True),
        (f"00-{SENDER[:-2]}00", True),  # not sampled
        (f"01-{SENDER}", True),
        (f"cc-{SENDER}-what-a-later-version-adds", True),
        (f"01-{SENDER}.no-part-of-its-own", False),
        (f"00-{SENDER}-more", False),
        (f"00-{SENDER}-", False),
        (f"ff-{SENDER}", False),
        (f"00-{'0' * 32}-{'cd' * 8}-01", False),
        (f"00-{'ab' * 16}-{'0' * 16}-01", False),
        (f"00-{SENDER.upper()}", False),
        ("", False),
    ],
)
def test_web_86_what_is_no_traceparent_is_no_caller(traceparent: str, known: bool) -> None:
    assert sender_ids(traceparent) == ("ab" * 16 + "cd" * 8 if known else None)
