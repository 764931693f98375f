"""Personal data by its shape: what `pii` may name."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from socket import AF_INET6, inet_pton
from typing import Final

from rootspan.redaction.marks import mark

__all__ = ["PERSONAL_DATA"]

_MAILBOX = re.compile(r"[\w.!#$+~-]+")
_DOMAIN = re.compile(r"(?:@(?<=[\w.!#$+~-]@)|%40(?<=[\w.!#$+~-]%40))[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
# the first character comes first and the look behind it after, so that `re` can skip to it
_PHONE = re.compile(
    # behind any other colon stand times, ratios and addresses
    r"[+(\d](?:(?<![\w.:+-].)|(?<=:\+)|(?<=[Tt][Ee][Ll]:.)|(?<=[Hh][Oo][Nn][Ee]:.))(?:"
    r"(?:(?<=\+)(?!\d*\.\d*(?![\d.]))|(?<=0)0)[1-9](?:\d{7,14}(?!\d)|(?:[ ./-]{0,2}\(?\d\)?){6,14})"
    r"|(?:(?<=1)[ .-])?(?:(?:(?<=\()|(?<=[ .-])\()\d{3}\) ?|(?:(?<=\d)|(?<=[ .-])\d)\d\d[ .-])\d{3}[ .-]\d{4}"
    r"|(?:(?<=\()0|(?<=0))\d{1,4}\)?[ /-]\d{3,4}(?:[ -]?\d{2,4}){1,3}"
    r"|(?<=0)(?:\d(?:[ .-]\d\d){4}|\d{9,10})"
    r")(?![\w-]|\.\d)"
)
_CARD = re.compile(
    r"\d(?<![\d.]\d)(?:\d{3}([ \u00a0.-])\d{4}\1\d{4}\1\d{1,7}|\d{3}([ \u00a0.-])\d{6}\2\d{4,5}|\d{12,18})(?!\d)",
    re.ASCII,
)
_DIGIT = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_SEPARATORS = " \u00a0.-".encode("latin-1")
_IBAN = re.compile(r"\d(?<=[A-Za-z]{2}\d)(?<![A-Za-z0-9].{2}\d)\d(?:[ \u00a0-]?[A-Za-z0-9]){11,30}", re.ASCII)
_IBAN_LENGTHS: Final = {  # characters by country, the IBAN registry
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU JO LB NI PL SV", 29: "BR EG PS QA UA",
        30: "KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
_IBAN_DIGITS = str.maketrans({letter: str(int(letter, 36)) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"})
_SSN = re.compile(r"[0-8](?<![\w-].)\d\d(?<!000)(?<!666)([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w-])")
_IPV4 = re.compile(r"\d(?<![\w.]\d)\d{0,2}(?:\.\d{1,3}){3}(?!\w|\.\d)")
_IPV6 = re.compile(r"[0-9A-Fa-f:](?<![\w:.].)[0-9A-Fa-f:.]+(?<![.])(?!\w)")


def _emails(text: str) -> str:
    out: list[str] = []
    done = 0
    for domain in _DOMAIN.finditer(text):
        mailbox = _MAILBOX.match(text[max(done, domain.start() - 254) : domain.start()][::-1])
        if mailbox and not domain[0].rpartition(".")[2].isdigit():
            out += text[done : domain.start() - mailbox.end()], mark("email")
            done = domain.end()
    return "".join(out) + text[done:] if done else text


def _each(pattern: re.Pattern[str], name: str, accepted: Callable[[str], int], text: str, before: int = 0) -> str:
    """Replace the first `accepted(match)` characters of every match; after a refused one go on inside it.

    `before`: characters that belong to the match and stand in front of where the pattern starts.
    """
    out: list[str] = []
    done = 0
    match = pattern.search(text)
    while match:
        start = match.start() - before
        length = accepted(text[start : match.end()])
        if length:
            out += text[done:start], mark(name)
            done = start + length
        match = pattern.search(text, max(done, match.start() + 1))
    return "".join(out) + text[done:] if done else text


def _card(run: str) -> int:
    if run[0] not in "23456":
        return 0
    digits = run.encode("latin-1").translate(None, _SEPARATORS)
    total = sum(digits[-1::-2].translate(_DIGIT)) + sum(digits[-2::-2].translate(_DOUBLED))
    return len(run) if total % 10 == 0 else 0


def _iban(run: str) -> int:
    left = _IBAN_LENGTHS.get(run[:2].upper(), 99)
    compact = run.encode("latin-1").translate(None, _SEPARATORS).decode("ascii").upper()[:left]
    if len(compact) < left or int((compact[4:] + compact[:4]).translate(_IBAN_DIGITS)) % 97 != 1:
        return 0
    ends = [end for end, character in enumerate(run, 1) if character.isalnum()]
    end = ends[left - 1]
    return 0 if run[end : end + 1].isalnum() else end


def _ipv6(match: re.Match[str]) -> str:
    run = match[0] if match[0].endswith("::") else match[0].removesuffix(":")
    if run.count(":") < 2 or not any(map(str.isdigit, run)):  # most are plain numbers, and `a::b` is code
        return match[0]
    try:
        inet_pton(AF_INET6, run)
    except OSError:
        return match[0]
    return mark("ip") + match[0][len(run) :]


def _ipv4(match: re.Match[str]) -> str:
    return mark("ip") if all(int(octet) <= 255 for octet in match[0].split(".")) else match[0]


def _addresses(text: str) -> str:
    if text.count(":") > 1:
        text = _IPV6.sub(_ipv6, text)
    return _IPV4.sub(_ipv4, text) if text.count(".") > 2 else text


# in the order in which they are applied: the exact ones before the phone numbers, which look like everything
PERSONAL_DATA: Final[dict[str, Callable[[str], str]]] = {
    "email": _emails,
    "iban": partial(_each, _IBAN, "iban", _iban, before=2),
    "card": partial(_each, _CARD, "card", _card),
    "ssn": partial(_SSN.sub, mark("ssn")),
    "ip": _addresses,
    "phone": partial(_PHONE.sub, mark("phone")),
}
"""What replaces the data of each name, in the order in which it is applied."""
