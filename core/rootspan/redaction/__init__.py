"""Redaction: what must not leave the process is replaced, in values by their key and in text by its shape.

Of a value, what is under a denied key goes whole (`denied_keys`). The texts that are left, and the keys, are scrubbed:

1. of our own secrets, such as the API key;
2. of secrets that are known by their shape, and of the user and password in URLs (`secret_shapes`);
3. of what stands behind denied keys in text (`assignments`);
4. of personal data, if it is asked for (`personal_data`); where there was some, 2 and 3 come again.

What is not replaced whole by then is shown to the host's own rule, if there is one.
"""

# Host values are told apart at run time, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any, Final

import orjson

from rootspan.log import Seldom
from rootspan.redaction.assignments import without_assignments
from rootspan.redaction.denied_keys import DeniedKeys
from rootspan.redaction.marks import DROPPED, REDACTED, TOO_DEEP
from rootspan.redaction.personal_data import PERSONAL_DATA
from rootspan.redaction.secret_shapes import without_shapes, without_userinfo

__all__ = ["DROPPED", "REDACTED", "TOO_DEEP", "Redactor"]

_DEEPEST: Final = 100  # levels; one Python frame each, on a thread whose stack may be the host's
_LONGEST_KEY: Final = 256  # characters
_LOOKED_AT: Final = 512  # characters of a longer one; what was looked at is kept
_UNMISTAKABLE: Final = 12  # characters of a secret that stands in no other word
_NO_TEXT: Final = frozenset({int, float, bool, type(None)})
_STAYS: Final[tuple[str | None, bool]] = (None, False)  # a key that is neither changed nor denied
_SHORT: Final = 14  # characters: a shorter secret shows in its signs, or in the word `Basic`
_SIGN: Final = re.compile(r"[:=%<@]|--|[bB][aA][sS][iI][cC]")


class Redactor:
    """Replaces what must not leave the process, by key, by shape, by exact value, and by the host's own rule.

    Args:
        text: Whether known secret shapes are replaced in text. Denied keys, also those in the query of a URL, and URL
            userinfo are always redacted.
        pii: Personal data to replace as well, out of `email`, `phone`, `card`, `iban`, `ssn` and `ip`.
        keys: Further denied keys; `"customer number"` denies `customerNumber` and `X-Customer-Number`.
        hook: Called with the path and the redacted value of every leaf that is left, `("input[0].content", "Hi")`;
            what it returns is used instead. If it raises, the value is dropped.
        secrets: Exact strings that never leave, such as our own API key; also in what the hook returns. Of less than
            12 characters, one is looked for where it stands alone, and not at all if it is a mere word, such as `test`.

    Example:
        >>> Redactor(pii={"email"}).value("properties", {"plan": "pro", "apiKey": "x", "note": "ask ann@example.com"})
        {'plan': 'pro', 'apiKey': '[redacted]', 'note': 'ask [redacted:email]'}
    """

    def __init__(
        self,
        *,
        text: bool = True,
        pii: Collection[str] = (),
        keys: Collection[str] = (),
        hook: Callable[[str, Any], Any] | None = None,
        secrets: Collection[str] = (),
    ) -> None:
        self._text = text
        self._pii = tuple(scrub for name, scrub in PERSONAL_DATA.items() if name in pii)
        self._denied = DeniedKeys(keys)
        longest_first = sorted(filter(_is_told_apart, secrets), key=len, reverse=True)
        self._secrets = tuple((secret, _exactly(secret)) for secret in longest_first)
        self._only_shapes = not (self._secrets or self._pii)
        self._hook = hook
        self._key = lru_cache(maxsize=4096)(self._decide)
        self._word = lru_cache(maxsize=1024)(self._scrub)
        self._seldom = Seldom()
        self._dropped = 0

    def value(self, path: str, value: Any) -> Any:
        """Redact a JSON-like value; nothing is changed in place.

        Args:
            path: Where the value belongs, such as `properties` or `input`; the hook sees it.
            value: A str, int, float, bool or None, or a dict or list of them.

        Returns:
            The redacted value.
        """
        try:
            if self._pii or not self._is_clean(value, 0):  # personal data is common, and looked for only once
                value = self._walk(value, 0, self._leaf)
            return self._asked(path, value) if self._hook else value
        except RecursionError:  # the caller's own stack was almost used up
            return TOO_DEEP

    def text(self, path: str, text: str) -> str:
        """Redact a string; like `value`, for a place where only a string can stand.

        Args:
            path: Where the text belongs; the hook sees it.
            text: The text.

        Returns:
            The redacted text.
        """
        if self._hook is None:
            return self._scrub(text)
        value = self.value(path, text)
        return value if isinstance(value, str) else "" if value is None else str(value)

    def passes(self, key: str) -> bool:
        """Return whether a key stays as it is, and so does what is under it as far as the key decides.

        Args:
            key: a key of a dict.
        """
        return len(key) <= _LONGEST_KEY and self._key(key) is _STAYS

    def word(self, named: Any) -> Any:
        """Redact what names something or somebody: a name, an id, a model, the type of an error.

        Nobody means to put a secret there; it happens all the same. The host's own rule is not asked.

        Args:
            named: a text; the JSON of what should have been one becomes a text, and anything else stays.
        """
        if type(named) is str:  # almost always a cached answer: each record has some
            return self._word(named) if len(named) <= _LONGEST_KEY else self._scrub(named)
        if type(named) is bytes:
            return orjson.dumps(self._walk(orjson.loads(named), 0, self._leaf)).decode()
        return named

    def _is_clean(self, value: Any, depth: int) -> bool:
        """Return whether a walk would leave a value as it is; asked first, because it is so almost always."""
        scrub, decide = self._scrub, self._key
        if depth >= _DEEPEST:
            return False
        kind: Any = type(value)
        items: Any = (value,)
        if kind is dict:
            for key in value:
                if type(key) is not str or len(key) > _LONGEST_KEY or decide(key) is not _STAYS:
                    return False
            items = value.values()
        elif kind is list:
            items = value
        for item in items:
            kind = type(item)
            if kind is str:
                if scrub(item) is not item:
                    return False
            elif kind is dict or kind is list:
                if not self._is_clean(item, depth + 1):
                    return False
            elif kind not in _NO_TEXT:
                return False
        return True

    def _walk(self, value: Any, depth: int, leaf: Callable[[Any], Any]) -> Any:
        """Return a value without what is under denied keys, and with what `leaf` makes of the rest."""
        if not isinstance(value, (dict, list)):
            return leaf(value)
        if depth >= _DEEPEST:
            return TOO_DEEP
        if isinstance(value, list):
            return [self._walk(item, depth + 1, leaf) for item in value]
        out: dict[Any, Any] = {}
        for key, item in value.items():
            text = key if type(key) is str else str(key)
            # a long key is data; it must not stay in the cache
            name, denied = self._key(text) if len(text) <= _LONGEST_KEY else self._decide(text)
            if name is None:
                name = key
            if name in out:
                name = f"{name}'"
                while name in out:
                    name += str(len(out))
            if denied and text == "token" and "logprob" in value:  # a word of a model's, and how likely it was
                denied = False
            out[name] = REDACTED if denied else self._walk(item, depth + 1, leaf)
        return out

    def _decide(self, key: str) -> tuple[str | None, bool]:
        """What a key becomes, None when it stays, and whether it is denied."""
        name = self._scrub(key)
        denied = self._denied.has(key[:_LOOKED_AT])
        return (None if name == key else name, denied) if denied or name != key else _STAYS

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._scrub(value)
        if self._pii and type(value) is int and 10**9 <= abs(value) < 10**40:
            text = self._scrub(str(value))
            return text if "[" in text else value
        return value

    def _asked(self, path: str, value: Any) -> Any:
        """Return what the host's own rule makes of what the masks left."""
        if isinstance(value, dict):
            return {key: self._asked(f"{path}.{key}", item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._asked(f"{path}[{index}]", item) for index, item in enumerate(value)]
        if self._hook is None or value in (REDACTED, TOO_DEEP):
            return value
        try:
            answer = self._hook(path, value)
            if answer is value or answer is None or type(answer) in (bool, int, float):
                return answer
            return self._walk(_json_like(answer), 0, self._exact)
        except BaseException as error:
            # What a cancelled task came to, asked for by the hook, cancels nobody; by name: asyncio costs its import.
            name = type(error).__name__
            if not isinstance(error, (Exception, SystemExit)) and name != "CancelledError":
                raise
            self._dropped += 1
            said = "The redact hook raised %s for %a (values dropped so far: %d). Make it return a value for each."
            self._seldom.say("hook", logging.WARNING, said, name, path, self._dropped, again=True)
            return DROPPED

    def _exact(self, value: Any) -> Any:
        return self._without_secrets(value) if isinstance(value, str) else value

    def _without_secrets(self, text: str) -> str:
        for secret, exactly in self._secrets:
            if secret in text:
                text = exactly.sub(REDACTED, text)
        return text

    def _scrub(self, text: str) -> str:
        if len(text) <= _SHORT and self._only_shapes and (text.isidentifier() or not _SIGN.search(text)):
            return text
        clean = self._without_secrets(text) if self._secrets else text
        if len(clean) > 3:
            clean = self._secretless(clean)
        public = clean
        for scrub in self._pii:
            public = scrub(public)
        if public != clean:  # a secret may have been glued to what is now a mark
            public = self._secretless(public)
        return text if public == text else public

    def _secretless(self, text: str) -> str:
        if self._text:
            text = without_shapes(text)
        if "@" in text:
            text = without_userinfo(text)
        return without_assignments(text, self._denied, queries_only=not self._text)


def _is_told_apart(secret: str) -> bool:
    return len(secret) >= _UNMISTAKABLE or not (secret.isalpha() or not secret)


def _exactly(secret: str) -> re.Pattern[str]:
    """Return what finds a secret; a short one may be a part of other ids."""
    found = re.escape(secret)
    return re.compile(found if len(secret) >= _UNMISTAKABLE else rf"(?<![\w-]){found}(?![\w-])")


def _json_like(answer: Any) -> Any:
    if type(answer) is str:
        return answer
    try:
        return orjson.loads(orjson.dumps(answer, option=orjson.OPT_NON_STR_KEYS, default=str))
    except (TypeError, ValueError, RecursionError):
        return str(answer)
