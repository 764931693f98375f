"""Redaction: what must not leave the process is replaced, in values by their key and in text by its shape.

Denied keys, whatever spelling (`api_key`, `apiKey`, `X-API-Key`, `APIKEY`), are compared word by word:

- one of these words anywhere in the key: those in `_WORDS` (`tokens`, a count, is none of them);
- `token`, unless it is counted: `token_count`, `token_usage`, `max_token`, `time_to_first_token`;
- these words in a row: those in `_PHRASES`; and as the whole key only: those in `_WHOLE`.

In text, a value in quotes after a denied key, and one after `key=`, always goes. After `key: ` or `key = ` a bare word
stays unless it looks like a secret, because that is also how prose and code are written.
"""

from __future__ import annotations

import logging
import re
import time
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache, partial
from itertools import pairwise
from socket import AF_INET6, inet_pton
from typing import Any, Final

import orjson

from rootspan.errors import ConfigurationError

__all__ = ["DROPPED", "REDACTED", "TOO_DEEP", "Redactor"]

REDACTED: Final = "[redacted]"
DROPPED: Final = "[dropped: redact hook raised]"
TOO_DEEP: Final = "[dropped: nested too deep]"
_DEEPEST: Final = 100  # levels; one Python frame each, on a thread whose stack may be the host's

_logger = logging.getLogger("rootspan")

# --- keys ------------------------------------------------------------------------------------------------------------


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORDS: Final = _set(
    "password passwords passwd passwds pwd pwds passphrase passphrases passcode passcodes secret secrets apikey apikeys"
    " authorization authorisation cookie cookies credential credentials creds jwt csrf xsrf cvv cvc ssn otp sessionid"
    " jsessionid phpsessid sessiontoken sessionkey authtoken accesstoken refreshtoken idtoken bearertoken csrftoken"
    " xsrftoken csrfmiddlewaretoken accesskey accesskeyid secretkey privatekey privatekeys clientsecret"
)
_PHRASES: Final = frozenset(
    f"{first} {last}"
    for firsts, lasts in (
        ("api private access session encryption signing master account auth ssh", "key keys"),
        ("access refresh auth api bearer", "tokens"),
        ("basic proxy http", "auth"),
        ("amz goog", "signature"),
        ("pass", "word phrase code"),
        ("pin", "code number"),
        ("security", "code"),
        ("auth", "header"),
    )
    for first in firsts.split()
    for last in lasts.split()
)
_WHOLE: Final = _set("auth pass pw pin sig")
_COUNTED_AFTER: Final = _set(
    "count counts usage limit limits budget cost costs price length rate type index ids latency ms seconds per"
)
_COUNTED_BEFORE: Final = _set("max min first last per num eos bos pad")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W\d_]+")


def _words(key: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(_HUMP.sub(" ", key))]


def _is_secret_token(words: list[str]) -> bool:
    for index, word in enumerate(words):
        if word == "token":
            after = words[index + 1] if index + 1 < len(words) else ""
            before = words[index - 1] if index else ""
            if after not in _COUNTED_AFTER and before not in _COUNTED_BEFORE:
                return True
    return False


def _is_denied(key: str, extra: frozenset[str]) -> bool:
    words = _words(key[:512])
    phrase = " ".join(words)
    if phrase in _WHOLE or not _WORDS.isdisjoint(words) or _is_secret_token(words):
        return True
    if any(f"{first} {last}" in _PHRASES for first, last in pairwise(words)):
        return True
    return any(f" {entry} " in f" {phrase} " for entry in extra)


# --- secrets by their shape ------------------------------------------------------------------------------------------
# A pattern consumes the whole run that it may match and judges it afterwards, so it never starts again inside.


def _mark(name: str) -> str:
    return f"[redacted:{name}]"


def _is_random(run: str) -> bool:
    """Whether a dashed run is a key and not a slug: long without a dash, or digits among the letters."""
    if len(run) < 20:
        return False
    parts = re.split("[-_]", run)
    if any(len(part) >= 20 or (len(part) >= 8 and part.isalnum() and _is_mixed(part)) for part in parts):
        return True
    return _is_mixed(run) and run != run.lower()


def _is_mixed(run: str) -> bool:
    return any(c.isdigit() for c in run) and any(c.isalpha() for c in run)


def _decoded(run: str) -> bytes:
    run = run.rstrip("=").replace("-", "+").replace("_", "/")
    run = run[: len(run) - (len(run) % 4 == 1)]
    try:
        return a2b_base64(run + "=" * (-len(run) % 4))
    except Base64Error:  # pragma: no cover  (the patterns let only whole base64 through)
        return b""


def _sk(match: re.Match[str]) -> str:
    return _mark("api_key") if _is_random(match[1]) else match[0]


def _jwt(match: re.Match[str]) -> str:
    # a header is JSON; `monkeyJumping.somewhereElse` is not
    head = _decoded(match[0][:12])
    is_json = len(head) == 9 and head.isascii() and head.decode("ascii").isprintable()
    return _mark("jwt") if match[2] and is_json else match[0]


def _bearer(match: re.Match[str]) -> str:
    run = match[2]
    looks = (len(run) >= 8 and any(c.isdigit() for c in run)) or (len(run) >= 20 and "-" not in run and "/" not in run)
    return match[1] + _mark("bearer") if looks else match[0]


def _basic(match: re.Match[str]) -> str:
    pair = _decoded(match[2])
    return match[1] + _mark("basic") if b":" in pair and all(byte >= 32 for byte in pair) else match[0]


_Scrub = Callable[[str], str]


def _shape(name: str, literals: str, body: str, *, starts: bool = False, judge: Any = None) -> list[tuple[str, _Scrub]]:
    """One pattern per literal; the literal comes first in it, so that `re` looks for it before anything else.

    `starts`: the literal must not continue a word (an escape such as `\\n` or `%20` in front of it is no word).
    """
    made: list[tuple[str, _Scrub]] = []
    for literal in literals.split():
        it = re.escape(literal)
        edge = rf"(?:(?<![A-Za-z0-9]{it})|(?<=\\[nrtbf]{it})|(?<=%[0-9A-Fa-f]{{2}}{it})|(?<=\\u[0-9A-Fa-f]{{4}}{it}))"
        pattern = re.compile(it + (edge if starts else "") + body)
        made.append((literal, partial(pattern.sub, judge or _mark(name))))
    return made


_PEM_EDGE = r"(?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"
_PEM_BEGIN = re.compile("-----BEGIN " + _PEM_EDGE)
_PEM_END = re.compile("-----END " + _PEM_EDGE)
_PEM_CUT = re.compile(  # a key without its END: lines of base64, the last of them perhaps short
    r"(?:(?:\s|\\+[nr])*(?:(?:Proc-Type|DEK-Info|Version|Comment): ?[^\r\n\\]*|[A-Za-z0-9+/=]{12,}))+"
    r"(?:(?:\s|\\+[nr])*[A-Za-z0-9+/=]{1,11}(?=[\r\n\\]|\W*\Z))?"
)


def _private_keys(text: str) -> str:
    out: list[str] = []
    done = 0
    begin = _PEM_BEGIN.search(text)
    end: re.Match[str] | None = None
    searched = False
    while begin:
        following = _PEM_BEGIN.search(text, begin.end())
        if not searched or (end and end.start() < begin.end()):
            end, searched = _PEM_END.search(text, begin.end()), True
        if end and not (following and following.start() < end.start()):
            stop = end.end()
        else:
            cut = _PEM_CUT.match(text, begin.end())
            stop = cut.end() if cut else 0
        if stop:
            out += text[done : begin.start()], _mark("private_key")
            done = stop
        begin = following
    return "".join(out) + text[done:]


_RUN = r"[A-Za-z0-9_-]"
# one cheap question per group of shapes; a pattern runs only where its literal is found
_DASHED = re.compile(
    r"-(?:(?<=sk-)|(?<=xox[abeoprs]-)|(?<=glpat-)|(?<=GOCSPX-)|(?<=xai-)|(?<=pplx-)|(?<=tvly-)|(?=----BEGIN ))"
)
_SCORED = re.compile(
    r"_(?:(?<=gh[pousr]_)|(?<=b_pat_)|(?<=k_live_)|(?<=k_test_)|(?<=npm_)|(?<=hf_)|(?<=gsk_)|(?<=whsec_)|(?<=lsv2_))"
)
_SHAPES: Final[tuple[tuple[str, re.Pattern[str] | None, list[tuple[str, _Scrub]]], ...]] = (
    (
        "-",
        _DASHED,
        [
            ("-----BEGIN", _private_keys),
            *_shape("api_key", "sk-", f"({_RUN}*)", starts=True, judge=_sk),
            *_shape("slack_token", "xox", r"[abeoprs]-[A-Za-z0-9-]{10,}", starts=True),
            *_shape("gitlab_token", "glpat-", rf"{_RUN}{{16,}}(?:\.{_RUN}{{2,}})*"),
            *_shape("google_secret", "GOCSPX-", rf"{_RUN}{{20,}}"),
            *_shape("api_key", "xai- pplx- tvly-", r"(?:[a-z]{3,4}-)?[A-Za-z0-9]{24,}", starts=True),
        ],
    ),
    (
        "_",
        _SCORED,
        [
            *_shape("github_token", "ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9_]{20,}(?:[.-][A-Za-z0-9_-]{10,})*"),
            *_shape("github_token", "github_pat_", r"[A-Za-z0-9_]{20,}"),
            *_shape("stripe_key", "sk_live_ rk_live_ sk_test_ rk_test_", r"[A-Za-z0-9]{10,}", starts=True),
            *_shape("npm_token", "npm_", r"[A-Za-z0-9]{30,}"),
            *_shape("huggingface_token", "hf_", r"[A-Za-z0-9]{30,}"),
            *_shape("api_key", "gsk_ whsec_ lsv2_", r"(?:[a-z]{2}_)?[A-Za-z0-9]{24,}[A-Za-z0-9_+/=]*", starts=True),
        ],
    ),
    ("K", None, _shape("aws_key_id", "AKIA", "[A-Z0-9]{16,}")),
    ("S", None, _shape("aws_key_id", "ASIA", "[A-Z0-9]{16,}")),
    ("z", None, _shape("google_key", "AIza", rf"{_RUN}{{35,}}")),
    ("J", None, _shape("jwt", "eyJ", rf"({_RUN}*)((?:\.{_RUN}{{8,}}(?:\.{_RUN}*){{0,3}})?)", judge=_jwt)),
    ("G", None, _shape("sendgrid_key", "SG.", rf"{_RUN}{{16,}}\.{_RUN}{{16,}}", starts=True)),
    ("9", None, _shape("google_token", "ya29.", rf"{_RUN}{{20,}}(?:\.{_RUN}{{4,}})*")),
    ("/", None, _shape("slack_webhook", "hooks.slack.com", r"(?:\\?/[A-Za-z0-9_-]+){2,}")),
)
_BEARER = re.compile(r"((?:bearer(?:[ \t]|%20|\+)+)+)([A-Za-z0-9._~+/=-]+)", re.IGNORECASE)
_BASIC = re.compile(r"((?:basic(?:[ \t]|%20|\+)+)+)([A-Za-z0-9+/_-]+={0,2})", re.IGNORECASE)
_USERINFO = re.compile(r"""(:(?:\\?/){2})([^\s/?#"'<>\\]+)@""")


def _userinfo(match: re.Match[str]) -> str:
    has_password = ":" in match[2] or len(match[2]) >= 20  # `git@` is a name, not a secret
    return f"{match[1]}{REDACTED}@" if has_password else match[0]


def _shapes(text: str) -> str:
    for sign, gate, shapes in _SHAPES:
        if sign in text and (gate is None or gate.search(text)):
            for literal, scrub in shapes:
                if literal in text:
                    text = scrub(text)
    capital = "B" in text
    if "earer" in text or (capital and "EARER" in text):
        text = _BEARER.sub(_bearer, text)
    return _BASIC.sub(_basic, text) if "asic" in text or (capital and "ASIC" in text) else text


# --- secrets by the key in front of them -----------------------------------------------------------------------------

_OPEN = r"""\\{0,15}["'`]"""
# Keys are found backwards from the sign behind them, in the reversed text: a word on its own costs nothing then.
_REVERSED_KEY = r"""[ \t]{0,32}\]?(?:["'`]\\{0,15})?([\w.-]{1,64}(?: [\w.-]{1,64})?)"""
_REVERSED_KEYS = (
    (":", re.compile(":" + _REVERSED_KEY)),
    ("=", re.compile("=[=:]{0,2}" + _REVERSED_KEY)),
    ("%3", re.compile("[Dd]3%" + _REVERSED_KEY)),
)
_SEPARATOR = re.compile(
    rf"({_OPEN})?\]?([ \t]{{0,32}})(=>|:=|={{1,3}}|:|%3[Dd])"
    rf"(\s{{0,32}}(?=[\\\"'`{{\[])|[ \t]{{0,32}})(?:[bBrRuUfF]{{0,2}}({_OPEN}))?"
)
_FLAG = re.compile(r"--([A-Za-z][\w-]{1,64})[ \t]{1,8}(?=[^\s-])")
_QUOTE = re.compile(r"""\\*["'`]""")
_BRACKET = re.compile(r"""\\*"|[{}\[\]]""")
_BARE = re.compile(r"""(?:[^\s"'`<>&;\\]|\\(?![nrtu"'`\\]))*""")
_COOKIES = re.compile(r"""[^\s;="'\\]+=[^\s;"'\\]*(?:;[ ]?[^\s;="'\\]+(?:=[^\s;"'\\]*)?)*""")
_SCHEME = re.compile(r"(?:basic|bearer|token|apikey|negotiate)(?:[ \t]|%20|\+)+(?=\S)", re.IGNORECASE)
_SCHEME_LINE = re.compile(r"""(?:digest|hawk|oauth|aws4-hmac-sha256)[ \t][^\r\n'`\\]+""", re.IGNORECASE)
_DONE = re.compile(r"\[redacted(?::\w+)?\]")
_NO_VALUE = re.compile(  # nothing, or a reference to where the secret is
    r"(?:none|null|nil|true|false|undefined|\{+[\w.]*\}+|\$\{?[A-Z][A-Z_]*\}?)?[,.)\]}]*\Z"
    r"|(?:os|self|cls|settings|config|process\.env)\.|(?:os\.)?getenv\(",
    re.IGNORECASE,
)
_EXPRESSION = re.compile(r"[A-Za-z_][\w.]*[(\[]")
_PLAIN = re.compile(r"[$€£]?\d{0,3}(?:[.,]\d+)?%?|[^\d@#$%^&*+~=]*")
_PASSWORDS: Final = _set("password passwd pwd passphrase passcode")
_NO_PASSWORDS: Final = _set(
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
    depth = 0
    quoted = False
    for match in _BRACKET.finditer(text, begin):
        sign = match[0]
        if sign[-1] == '"':
            quoted ^= (len(sign) - 1 - level) % (2 * level + 2) == 0
        elif not quoted:
            depth += 1 if sign in "{[" else -1
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
    bare = _BARE.match(text, begin)
    run = bare[0] if bare else ""
    if _NO_VALUE.match(run):
        return begin
    done = _DONE.match(run)
    end = begin + max(len(run.rstrip(",.)]}")), done.end() if done else 0)
    return end if strict or _is_opaque(text[begin:end], words) else begin


def _is_opaque(value: str, words: list[str]) -> bool:
    if _EXPRESSION.match(value):
        return False
    if not _PASSWORDS.isdisjoint(words):
        return len(value) > 3 and value.lower() not in _NO_PASSWORDS
    return not _PLAIN.fullmatch(value)


def _is_denied_run(reversed_run: str, is_denied: Callable[[str], bool]) -> bool:
    run = reversed_run[::-1]
    return is_denied(run.rpartition(" ")[2]) or (" " in run and is_denied(run))  # `API key: ...` are two words


def _denied_keys(
    text: str, is_denied: Callable[[str], bool], is_denied_run: Callable[[str], bool]
) -> list[tuple[int, int]]:
    """Where denied keys with a value behind them start and end."""
    found: list[tuple[int, int]] = []
    backwards, size = text[::-1], len(text)
    for sign, pattern in _REVERSED_KEYS:
        if sign in text:
            runs = set(filter(is_denied_run, set(pattern.findall(backwards))))
            if runs:
                found += [(size - m.end(1), size - m.start(1)) for m in pattern.finditer(backwards) if m[1] in runs]
    if "--" in text:
        found += [match.span(1) for match in _FLAG.finditer(text) if is_denied(match[1])]
    return sorted(found)


def _assignments(text: str, keys: list[tuple[int, int]], *, queries_only: bool) -> str:
    out: list[str] = []
    done = 0
    for start, end in keys:
        in_query = text[start - 1 : start] in ("?", "&") or (start == 0 and " " not in text)
        if end > done and (in_query or not queries_only):
            begin, stop, quote = _value_span(text, end, _words(text[start:end]))
            if stop > begin:
                out += text[done:begin], quote, REDACTED, quote
                done = stop
    return "".join(out) + text[done:] if done else text


def _value_span(text: str, key_end: int, words: list[str]) -> tuple[int, int, str]:
    """Where the value behind a key starts and ends, and the quotes that its replacement needs."""
    separator = _SEPARATOR.match(text, key_end)
    if not separator:  # `--password x`
        begin = key_end + len(text[key_end : key_end + 9]) - len(text[key_end : key_end + 9].lstrip(" \t"))
        return begin, _bare_end(text, begin, words, strict=True), ""
    begin = separator.end()
    closing, before, sign, after, opening = separator.groups("")
    if opening:
        return begin, _string_end(text, begin, opening), ""
    if closing and text[begin : begin + 1] in ("{", "["):
        return begin, _bracket_end(text, begin, len(closing) - 1), closing
    strict = bool(closing) or (not before and not after and sign in ("=", "%3D", "%3d"))
    return begin, _bare_end(text, begin, words, strict=strict), closing


# --- personal data, on request ---------------------------------------------------------------------------------------

_MAILBOX = re.compile(r"[\w.!#$+~-]+")
_DOMAIN = re.compile(r"(?:@(?<=[\w.!#$+~-]@)|%40(?<=[\w.!#$+~-]%40))[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
# the first character comes first and the look behind it after, so that `re` can skip to it
_PHONE = re.compile(
    r"[+(\d](?<![\w.:+-].)(?:"
    r"(?:(?<=\+)(?!\d*\.\d*(?![\d.]))|(?<=0)0)[1-9](?:\d{7,14}(?!\d)|(?:[ ./-]{0,2}\(?\d\)?){6,14})"
    r"|(?:(?<=1)[ .-])?(?:(?:(?<=\()|(?<=[ .-])\()\d{3}\) ?|(?:(?<=\d)|(?<=[ .-])\d)\d\d[ .-])\d{3}[ .-]\d{4}"
    r"|(?:(?<=\()0|(?<=0))\d{1,4}\)?[ /-]\d{3,4}(?:[ -]?\d{2,4}){1,3}"
    r"|(?<=0)(?:\d(?:[ .-]\d\d){4}|\d{9,10})"
    r")(?![\w-]|\.\d)"
)
_CARD = re.compile(
    r"\d(?<![\d.]\d)(?:\d{3}([ \u00a0.-])\d{4}\1\d{4}\1\d{1,7}|\d{3}([ \u00a0.-])\d{6}\2\d{4,5}|\d{12,18})(?!\d)"
)
_DIGIT = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_SEPARATORS = str.maketrans("", "", " \u00a0.-")
_IBAN = re.compile(r"\d(?<=[A-Za-z]{2}\d)(?<![A-Za-z0-9].{2}\d)\d(?:[ \u00a0-]?[A-Za-z0-9]){11,30}")
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
            out += text[done : domain.start() - mailbox.end()], _mark("email")
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
            out += text[done:start], _mark(name)
            done = start + length
        match = pattern.search(text, max(done, match.start() + 1))
    return "".join(out) + text[done:] if done else text


def _card(run: str) -> int:
    digits = run.translate(_SEPARATORS).encode()
    if not 13 <= len(digits) <= 19 or digits[:1] not in b"23456":
        return 0
    total = sum(digits[-1::-2].translate(_DIGIT)) + sum(digits[-2::-2].translate(_DOUBLED))
    return len(run) if total % 10 == 0 else 0


def _iban(run: str) -> int:
    left = _IBAN_LENGTHS.get(run[:2].upper(), 99)
    compact = run.translate(_SEPARATORS).upper()[:left]
    if len(compact) < left or int((compact[4:] + compact[:4]).translate(_IBAN_DIGITS)) % 97 != 1:
        return 0
    ends = [end for end, character in enumerate(run, 1) if character.isalnum()]
    end = ends[left - 1]
    return 0 if run[end : end + 1].isalnum() else end


def _ipv6(match: re.Match[str]) -> str:
    run = match[0] if match[0].endswith("::") else match[0].removesuffix(":")
    colons = run.count(":")
    has_shape = len(run) <= 45 and (colons == 7 or (colons > 1 and ("::" in run or "." in run)))
    if not has_shape or not any(map(str.isdigit, run)):
        return match[0]
    try:
        inet_pton(AF_INET6, run)
    except OSError:
        return match[0]
    return _mark("ip") + match[0][len(run) :]


def _ipv4(match: re.Match[str]) -> str:
    return _mark("ip") if all(int(octet) <= 255 for octet in match[0].split(".")) else match[0]


def _addresses(text: str) -> str:
    if text.count(":") > 1:
        text = _IPV6.sub(_ipv6, text)
    return _IPV4.sub(_ipv4, text) if text.count(".") > 2 else text


# in the order in which they are applied: the exact ones before the phone numbers, which look like everything
_PII: Final[dict[str, _Scrub]] = {
    "email": _emails,
    "iban": partial(_each, _IBAN, "iban", _iban, before=2),
    "card": partial(_each, _CARD, "card", _card),
    "ssn": partial(_SSN.sub, _mark("ssn")),
    "ip": _addresses,
    "phone": partial(_PHONE.sub, _mark("phone")),
}


# --- the redactor ----------------------------------------------------------------------------------------------------


_Leaf = Callable[[str, Any], Any]


class Redactor:
    """Replaces what must not leave the process, by key, by shape, by exact value, and by the host's own rule.

    Args:
        text: Whether known secret shapes are replaced in text. Denied keys, also those in the query of a URL, and URL
            userinfo are always redacted.
        pii: Personal data to replace as well, out of `email`, `phone`, `card`, `iban`, `ssn` and `ip`.
        keys: Further denied keys; `"customer number"` denies `customerNumber` and `X-Customer-Number`.
        hook: Called with the path and the redacted value of every leaf that is left, `("input[0].content", "Hi")`;
            what it returns is used instead. If it raises, the value is dropped.
        secrets: Exact strings that never leave, such as our own API key; also in what the hook returns.

    Raises:
        ConfigurationError: A `pii` name is unknown, a key has no letters, or the hook cannot be called.

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
        if hook is not None and not callable(hook):
            raise ConfigurationError(f"The redact hook {hook!r} cannot be called. Give a function of (path, value).")
        self._text = text
        self._pii = tuple(_chosen(pii))
        extra = _denied_phrases(keys)
        self._secrets = tuple(sorted(filter(None, _listed(secrets)), key=len, reverse=True))
        self._hook = hook
        self._is_denied = lru_cache(maxsize=4096)(partial(_is_denied, extra=extra))
        self._is_denied_run = lru_cache(maxsize=4096)(partial(_is_denied_run, is_denied=self._is_denied))
        self._name = lru_cache(maxsize=4096)(self._scrub)
        self._logged = float("-inf")
        self._unlogged = 0

    def value(self, path: str, value: Any) -> Any:
        """Redact a JSON-like value; what did not change is the same object, and nothing is changed in place.

        Args:
            path: Where the value belongs, such as `properties` or `input`; the hook sees it.
            value: A str, int, float, bool or None, or a dict or list of them.

        Returns:
            The redacted value.
        """
        try:
            return self._walk(path, value, 0, self._leaf)
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

    def _walk(self, path: str, value: Any, depth: int, leaf: _Leaf) -> Any:
        if not isinstance(value, (dict, list)):
            return leaf(path, value)
        if depth >= _DEEPEST:
            return TOO_DEEP
        return self._dict(path, value, depth, leaf) if isinstance(value, dict) else self._list(path, value, depth, leaf)

    def _dict(self, path: str, value: Any, depth: int, leaf: _Leaf) -> Any:
        out: dict[Any, Any] = {}
        changed = False
        for key, item in value.items():
            text = key if isinstance(key, str) else str(key)
            short = len(text) <= 256  # a long key is data; it must not stay in the cache
            name = self._name(text) if short else self._scrub(text)
            if name == text:
                name = key
            while name in out:
                name = f"{name}'"
            if (self._is_denied if short else self._is_denied.__wrapped__)(text):
                new = item if item == REDACTED else REDACTED
            else:
                new = self._walk(f"{path}.{text}", item, depth + 1, leaf)
            changed = changed or new is not item or name is not key
            out[name] = new
        return out if changed else value

    def _list(self, path: str, value: Any, depth: int, leaf: _Leaf) -> Any:
        out = [self._walk(f"{path}[{index}]", item, depth + 1, leaf) for index, item in enumerate(value)]
        return value if all(new is old for new, old in zip(out, value, strict=True)) else out

    def _leaf(self, path: str, value: Any) -> Any:
        if isinstance(value, str):
            value = self._scrub(value)
        elif self._pii and type(value) is int and 10**9 <= abs(value) < 10**40:
            text = self._scrub(str(value))
            value = text if "[" in text else value
        return value if self._hook is None else self._hooked(path, value)

    def _hooked(self, path: str, value: Any) -> Any:
        assert self._hook is not None
        try:
            answer = self._hook(path, value)
            if answer is value or answer is None or type(answer) in (bool, int, float):
                return answer
            return self._walk(path, _json_like(answer), 0, self._exact)
        except (Exception, SystemExit) as error:
            self._report(path, type(error).__name__)
            return DROPPED

    def _report(self, path: str, error: str) -> None:
        self._unlogged += 1
        now = time.monotonic()
        if now - self._logged >= 60:
            count, self._unlogged, self._logged = self._unlogged, 0, now
            _logger.warning(
                "The redact hook raised %s for %a (values dropped since the last such line: %d). "
                "Make it return a value for every path and value.",
                error,
                path,
                count,
            )

    def _exact(self, path: str, value: Any) -> Any:
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, REDACTED)
        return value

    def _scrub(self, text: str) -> str:
        clean = text
        for secret in self._secrets:
            if secret in clean:
                clean = clean.replace(secret, REDACTED)
        if len(clean) > 4:
            clean = self._secretless(clean)
        for scrub in self._pii:
            clean = scrub(clean)
        return text if clean == text else clean

    def _secretless(self, text: str) -> str:
        if self._text:
            text = _shapes(text)
        if "@" in text and ("://" in text or ":\\/\\/" in text):
            text = _USERINFO.sub(_userinfo, text)
        if ":" in text or "=" in text or "--" in text or "%3" in text:
            keys = _denied_keys(text, self._is_denied, self._is_denied_run)
            return _assignments(text, keys, queries_only=not self._text) if keys else text
        return text


def _listed(names: Collection[str]) -> Collection[str]:
    return (names,) if isinstance(names, str) else names


def _chosen(pii: Collection[str]) -> Iterator[_Scrub]:
    chosen = set(_listed(pii))
    unknown = sorted(map(str, chosen - _PII.keys()))
    if unknown:
        choices = ", ".join(sorted(_PII))
        raise ConfigurationError(f"Unknown personal data to redact: {', '.join(unknown)}. Choose from: {choices}.")
    return (scrub for name, scrub in _PII.items() if name in chosen)


def _denied_phrases(keys: Collection[str]) -> frozenset[str]:
    phrases: set[str] = set()
    for key in _listed(keys):
        words = _words(key)
        if not words:
            raise ConfigurationError(f"The denied key {key!r} has no letters. Give a key such as 'customer number'.")
        phrases |= {" ".join(words), "".join(words)}
    return frozenset(phrases)


def _json_like(answer: Any) -> Any:
    if type(answer) is str:
        return answer
    try:
        return orjson.loads(orjson.dumps(answer, option=orjson.OPT_NON_STR_KEYS, default=str))
    except (TypeError, ValueError, RecursionError):
        return str(answer)
