"""Secrets in text by the key in front of them: `password=x`, `"token": "x"`, `Cookie: a=b`, `<secret>x</secret>`.

After a denied key a value in quotes, or in brackets with quotes in them, always goes, and so does any after `key=`.
After `key: ` or `key = ` a bare word stays unless it looks like a secret: that is also how prose and code are written.
"""

from __future__ import annotations

import re
from functools import lru_cache
from operator import itemgetter
from typing import Final

from rootspan.redaction.denied_keys import DeniedKeys, word_set, words
from rootspan.redaction.marks import DONE, REDACTED

__all__ = ["without_assignments"]

_OPEN = r"""\\{0,15}["'`]"""
_IN_WORD = r"[^\x00-,/:-@\[-^`{-\x7f]"  # [\w.-] and all beyond ASCII: a set that `re` decides at once
# Keys are found backwards from the sign behind them, in the reversed text: a word on its own costs nothing then.
# What stands between the two is looked at for denied keys only, and without groups `re` takes half the time.
_REVERSED_KEY = rf"""[ \t\]"'`\\]{{0,48}}({_IN_WORD}{{1,64}} ?{_IN_WORD}{{0,64}}[\\%]?)"""
_REVERSED_KEYS = (
    (":", re.compile(":" + _REVERSED_KEY)),
    ("=", re.compile("=[=:]{0,2}" + _REVERSED_KEY)),
    ("%", re.compile("[Dd]3%" + _REVERSED_KEY)),
    (">", re.compile(rf">({_IN_WORD}{{1,64}})(?=(?::{_IN_WORD}{{1,64}})?<)")),  # a tag
)
_ANNOTATION = (  # `api_key: str = "x"`; a comma outside brackets begins the next parameter
    r"[ ]?(?:str|string|bytes|Final|Optional|SecretStr)\b[\w |.]{0,48}(?:\[[\w\[\], |.]{0,48}\][\w |.]{0,16})?"
)
_SEPARATOR = re.compile(
    rf"({_OPEN})?\]?([ \t]{{0,32}})(:{_ANNOTATION}=|=>|:=|={{1,3}}|:|%3[Dd])"
    rf"(\s{{0,32}}(?=[\\\"'`{{\[])|[ \t]{{0,32}})(?:[bBrRuUfF]{{0,2}}({_OPEN}))?"
)
_FLAG = re.compile(r"--([A-Za-z][\w-]{1,64})[ \t]{1,8}(?=[^\s-])")
_QUOTED_NEXT = re.compile(r"""\s{0,32}[\\"'`{\[]""")
_QUOTE = re.compile(r"""\\*["'`]""")
_BRACKET = re.compile(r"""\\*["'`]|[{}\[\]()]""")
_BEFORE_STRING = re.compile(r"""(?:^|\W)[bBrRuUfF]?\Z""")  # an apostrophe in a word opens none
_GROUP = re.compile(  # a dict, a list, a tuple or a call, and whether a string comes first in it
    rf"""([A-Za-z_][\w.]{{0,64}})?[{{\[(](?:(?:[\s{{\[(]|\w{{1,64}}=){{0,32}}[bBrRuUfF]{{0,2}}({_OPEN}))?"""
)
_ELEMENT = re.compile(rf"(?:\s{{0,32}}<!\[CDATA\[)?([^<]+)</(?:{_IN_WORD}{{1,64}}:)?({_IN_WORD}{{1,64}})>")
_BARE = re.compile(r"""[^\s"'`<>&;\\]*(?:\\(?![nrtu"'`\\])[^\s"'`<>&;\\]*)*""")
_LOOK: Final = 1_024  # characters that tell whether something looks like a secret
_COOKIES = re.compile(rf"""[^\s;="'\\]{{1,{_LOOK}}}=[^\s;"'\\]*(?:;[ ]?[^\s;="'\\]+(?:=[^\s;"'\\]*)?)*""")
_SCHEME = re.compile(r"(?:basic|bearer|token|apikey|negotiate)(?:[ \t]|%20|\+)+(?=\S)", re.IGNORECASE)
_SCHEME_LINE = re.compile(r"""(?:digest|hawk|oauth|aws4-hmac-sha256)[ \t][^\r\n'`\\]+""", re.IGNORECASE)
_NO_VALUE = re.compile(
    r"(?:none|null|nil|true|false|undefined|\(\)|\[\]|\{+[\w.]*\}+|\$\{?[A-Z][A-Z_]*\}?|\$?\{\{)?[,.)\]}]*\Z",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(r"(?:os|self|cls|settings|config|process\.env)\.|getenv\(", re.IGNORECASE)
_EXPRESSION = re.compile(r"[A-Za-z_][\w.]*[(\[]")
_PLAIN = re.compile(r"[$€£]?\d{0,3}(?:[.,]\d+)?%?|[^\d@#$%^&*+~=]*")
_words = lru_cache(maxsize=1024)(words)
_ABOUT: Final = word_set(
    "policy policies rule rules requirement requirements length strength hint manager format field"
)
_PASSWORDS: Final = word_set("password passwd pwd passphrase passcode")
_NO_PASSWORDS: Final = word_set(
    "string text bytes bool boolean optional required secretstr varchar char must should your please then"
    " enter click with that this field hash"
)


def _string_end(text: str, begin: int, quote: str) -> int:
    """Where the string that `quote` opened ends; the quote may be escaped, as in JSON inside JSON."""
    level = len(quote) - 1
    if level == 0 and text.startswith(quote * 2, begin):
        end = text.find(quote * 3, begin + 2)
        return len(text) if end < 0 else end
    for match in _QUOTE.finditer(text, begin):
        slashes = match.end() - match.start() - 1
        if match[0][-1] == quote[-1]:
            if slashes < level:  # the string around it ends first
                return match.start()
            if (slashes - level) % (2 * level + 2) == 0:
                return match.end() - len(quote)
    newline = text.find("\n", begin)
    return len(text) if newline < 0 else newline


def _bracket_end(text: str, begin: int, level: int) -> int:
    """Where the bracket closes that opens there; the quotes in it have `level` backslashes."""
    depth = 0
    quote = ""
    for match in _BRACKET.finditer(text, begin):
        sign = match[0]
        if sign[-1] in "\"'`":
            if (len(sign) - 1 - level) % (2 * level + 2) == 0:
                start = match.start()
                if quote:
                    quote = "" if quote == sign[-1] else quote
                elif _BEFORE_STRING.search(text[start - 2 : start]):
                    quote = sign[-1]
        elif not quote:
            depth += 1 if sign in "{[(" else -1
            if depth == 0:
                return match.end()
    return len(text)


def _bare_end(text: str, begin: int, words: list[str], *, strict: bool) -> int:
    """Where the unquoted value ends that begins there; `begin` itself when it does not look like a secret."""
    if words[-1].startswith("cookie") and not strict:
        cookies = _COOKIES.match(text, begin)
        return cookies.end() if cookies else begin
    if words[-1].startswith("authori"):
        line = _SCHEME_LINE.match(text, begin)
        if line:
            return line.end()
        scheme = _SCHEME.match(text, begin)
        if scheme:
            end = _bare_end(text, scheme.end(), ["token"], strict=True)
            return end if end > scheme.end() else begin
    if _ELSEWHERE.match(text, begin):  # asked first: the run behind it may be the rest of the text
        return begin
    run = _run(text, begin, len(text) if strict else begin + _LOOK)
    if _NO_VALUE.match(run) or not (strict or _is_opaque(run[: _value_length(run)], words)):
        return begin
    if len(run) == _LOOK:
        run = _run(text, begin, len(text))
    return begin + _value_length(run)


def _run(text: str, begin: int, end: int) -> str:
    bare = _BARE.match(text, begin, end)
    return bare[0] if bare else ""


def _value_length(run: str) -> int:
    return max([len(run.rstrip(",.)]}")), *(done.end() for done in DONE.finditer(run))])


def _is_opaque(value: str, words: list[str]) -> bool:
    if _EXPRESSION.match(value):
        return False
    if words[-1] == "pass" and value.isdigit():  # `pass: 1245, fail: 3`
        return len(value) > 4
    if not _PASSWORDS.isdisjoint(words):
        return len(value) > 3 and value.lower().rstrip("!?") not in _NO_PASSWORDS
    return not _PLAIN.fullmatch(value)


def without_assignments(text: str, denied: DeniedKeys, *, queries_only: bool) -> str:
    """Return `text` with the values behind denied keys replaced: `token=x`, `"token": "x"`, `<token>x</token>`.

    Args:
        text: The text.
        denied: The denied keys.
        queries_only: Whether only those in the query of a URL are replaced.
    """
    if not (":" in text or "=" in text or "%" in text or ">" in text or ("-" in text and "--" in text)):
        return text
    out: list[str] = []
    done = 0
    for start, end in _denied_keys(text, denied):
        in_query = text[start - 1 : start] in ("?", "&") or (start == 0 and " " not in text)
        if end > done and (in_query or not queries_only):
            begin, stop, quote = _value_span(text, start, end)
            if stop > begin:
                out += text[done:begin], quote, REDACTED, quote
                done = stop
    return "".join(out) + text[done:] if done else text


def _denied_keys(text: str, denied: DeniedKeys) -> list[tuple[int, int]]:
    """Where denied keys with a value behind them start and end."""
    found: list[tuple[int, int]] = []
    backwards, size = text[::-1], len(text)
    for sign, pattern in _REVERSED_KEYS:
        if sign in text:
            keys = denied.among(pattern.findall(backwards))
            if keys:
                ends = ((size - m.start(1), m[1]) for m in pattern.finditer(backwards) if m[1] in keys)
                found += [(end - len(keys[run]), end) for end, run in ends]
    if "-" in text and "--" in text:
        found += [match.span(1) for match in _FLAG.finditer(text) if denied.has(match[1])]
    return sorted(found, key=itemgetter(1))  # `--token a:x` ends two keys: the flag is the first


def _value_span(text: str, key_start: int, key_end: int) -> tuple[int, int, str]:
    """Where the value behind a key starts and ends, and the quotes that its replacement needs."""
    key = text[key_start:key_end]
    last = _words(key.rpartition(" ")[2])
    words = last if last and last[-1] in _ABOUT else _words(key) or last
    separator = _SEPARATOR.match(text, key_end)
    if not separator:
        return (*_unsigned_span(text, key_start, key_end, words), "")
    begin = separator.end()
    closing, before, sign, after, opening = separator.groups("")
    if opening:
        return begin, _string_end(text, begin, opening), ""
    in_connection = text[key_start - 1 : key_start] == ";"  # `Uid=sa;Pwd=/x`
    if last == ["pwd"] and text.startswith(("/", "~/"), begin) and not in_connection:  # where a shell is
        return begin, begin, ""
    strict = bool(closing) or (not before and not after and sign in ("=", "%3D", "%3d"))
    end = _bare_end(text, begin, words, strict=strict)
    group = _GROUP.match(text, begin)
    if group:
        name, quote = group.groups("")
        if (quote and end > begin) if name else (quote or closing or end > begin):
            close = _bracket_end(text, begin + len(name), len(quote or closing or " ") - 1)
            end = close if closing else max(end, close)  # `password=(S3cr3t)x9!k` is no group
    return begin, end, closing


def _unsigned_span(text: str, key_start: int, key_end: int, words: list[str]) -> tuple[int, int]:
    """Where the value of `<password>x</password>` or `--password x` starts and ends."""
    if text.startswith(">", key_end):
        return _element_span(text, key_start, key_end)
    flag = _FLAG.match(text, key_start - 2)
    if not flag:
        return key_end, key_end
    begin = flag.end()
    stop = _bare_end(text, begin, words, strict=True)
    is_key = text[stop - 1] in ":=" and _QUOTED_NEXT.match(text, stop)  # `--auth token="x"`
    return (begin, begin) if is_key else (begin, stop)


def _element_span(text: str, key_start: int, key_end: int) -> tuple[int, int]:
    """Where the text of an XML element starts and ends; nothing when it holds another element."""
    element = _ELEMENT.match(text, key_end + 1)
    if not element or element[2] != text[key_start:key_end] or element[1].strip().removesuffix("]]>") in ("", REDACTED):
        return key_end, key_end
    begin, stop = element.span(1)
    return begin, stop - 3 * element[1].endswith("]]>")
