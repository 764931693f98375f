"""Which keys are denied, whatever their spelling: `api_key`, `apiKey`, `X-API-Key`, `APIKEY`.

They are compared word by word:

- one of these words anywhere in the key: those in `_WORDS` (`tokens`, a count, is none of them);
- one that ends in `password`, `passwd` or `apikey`: `DBPASSWORD`;
- `token`, unless it is counted: `token_count`, `token_usage`, `max_token`, `time_to_first_token`;
- these words in a row: those in `_PHRASES`; and as the whole key only: those in `_WHOLE`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache, partial
from itertools import pairwise
from typing import Final

__all__ = ["DeniedKeys", "word_set", "words"]


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text that blanks part."""
    return frozenset(text.split())


_WORDS: Final = word_set(
    "passwords passwds pwd pwds passphrase passphrases passcode passcodes secret secrets apikeys authorization"
    " authorisation cookie cookies credential credentials creds jwt csrf xsrf cvv cvc ssn otp totp sessionid"
    " jsessionid phpsessid sessiontoken sessionkey authtoken accesstoken refreshtoken idtoken bearertoken csrftoken"
    " xsrftoken csrfmiddlewaretoken accesskey accesskeyid secretkey privatekey privatekeys clientsecret"
)
_PHRASES: Final = frozenset(
    f"{first} {last}"
    for firsts, lasts in (
        (
            "api private access session encryption signing master account auth ssh subscription functions shared",
            "key keys",
        ),
        ("access refresh auth api bearer", "tokens"),
        ("basic proxy http", "auth"),
        ("amz goog", "signature"),
        ("pass", "word phrase code"),
        ("db database smtp imap mail email ftp mysql postgres pg redis admin root user", "pass"),
        ("seed recovery", "phrase"),
        ("pin", "code number"),
        ("security verification mfa", "code"),
        ("auth", "header"),
    )
    for first in firsts.split()
    for last in lasts.split()
)
_ENDS: Final = ("password", "passwd", "apikey")
_WHOLE: Final = word_set("auth bearer pass pw pin sig")
_COUNTED_AFTER: Final = word_set(
    "count counts usage limit limits budget cost costs price balance length rate type index id ids latency ms"
    " seconds per"
)
_COUNTED_BEFORE: Final = word_set("max min first last per num eos bos pad")
_ROOTS: Final = word_set(
    "pass token key auth secr cook cred jwt pwd pw srf cvv cvc ssn otp sess pin sig secur verif mfa phras bear"
)
"""Every denied key has one of these in it, once it is in small letters."""
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W\d_]+")
_WORD_OR_NUMBER = re.compile(r"[^\W\d_]+|\d+")
_ESCAPE = re.compile(r"\\[nrtbf]|%[0-9A-Fa-f]{2}|\\")  # in JSON or a URL
_CACHED: Final = 4096


def words(key: str) -> list[str]:
    """Return the words of a key in small letters, parted at case, digits and punctuation."""
    return [word.lower() for word in _WORD.findall(_HUMP.sub(" ", key))]


def _with_numbers(key: str) -> list[str]:
    return [part.lower() for part in _WORD_OR_NUMBER.findall(_HUMP.sub(" ", key))]


def _is_secret_token(words: list[str]) -> bool:
    around = zip(["", *words], words, [*words[1:], ""], strict=False)
    return any(
        word == "token" and before not in _COUNTED_BEFORE and after not in _COUNTED_AFTER
        for before, word, after in around
    )


def _is_denied(key: str, extra: frozenset[str]) -> bool:
    parts = words(key)
    phrase = " ".join(parts)
    if phrase in _WHOLE or not _WORDS.isdisjoint(parts) or _is_secret_token(parts):
        return True
    if any(part.endswith(_ENDS) for part in parts):
        return True
    if any(f"{first} {last}" in _PHRASES for first, last in pairwise(parts)):
        return True
    if not extra:
        return False
    spellings = f" {phrase} ", f" {' '.join(_with_numbers(key))} "
    return any(f" {entry} " in spelling for entry in extra for spelling in spellings)


def _phrases(keys: Collection[str]) -> frozenset[str]:
    phrases: set[str] = set()
    for key in keys:
        parts = _with_numbers(key)
        phrases |= {" ".join(parts), " ".join(_WORD_OR_NUMBER.findall("".join(parts)))}
    return frozenset(phrases)


class DeniedKeys:
    """The built-in denied keys and further ones, with what was decided before.

    Args:
        keys: Further denied keys; `"customer number"` denies `customerNumber` and `X-Customer-Number`, and `"address2"`
            denies `address_2` and not `address`. Each has letters.
    """

    def __init__(self, keys: Collection[str] = ()) -> None:
        extra = _phrases(keys)
        self.has = lru_cache(maxsize=_CACHED)(partial(_is_denied, extra=extra))
        first_words = {phrase.partition(" ")[0] for phrase in extra}
        # letters beyond ASCII may change with their neighbours in small print; "" is in every text
        self._roots = (*_ROOTS, *(word if word.isascii() else "" for word in first_words))
        self._harmless: set[str] = set()

    def _key_in(self, reversed_run: str) -> str:
        """Return the denied key in a reversed run, which may begin with the escape in front of it; else nothing."""
        run = reversed_run[::-1]
        whole = run.lstrip("\\%")  # `C:\token`
        for key in (whole, _ESCAPE.sub("", run)):
            if self.has(key.rpartition(" ")[2]) or (" " in key and self.has(key)):  # `API key: ...` are two words
                return key
        return ""

    def among(self, reversed_runs: Iterable[str]) -> dict[str, str]:
        """Return those of the reversed runs of one or two words that are denied keys, each with its key.

        Most of a text's runs were never seen before, so all of them are asked at once whether one may be denied.
        """
        runs = set(reversed_runs) - self._harmless
        denied: dict[str, str] = {}
        if not runs:
            return denied
        joined = "\n".join(runs)[::-1].lower()
        if any(root in joined for root in self._roots):
            denied = {run: key for run in runs if (key := self._key_in(run))}
        if len(self._harmless) >= _CACHED:
            self._harmless.clear()
        self._harmless |= runs - denied.keys()
        return denied
