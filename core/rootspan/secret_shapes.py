"""Secrets by their shape, such as `sk-...`, a JWT or a private key, and the userinfo of a URL.

A pattern consumes the whole run that it may match and judges it afterwards, so it never starts again inside.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from rootspan.marks import REDACTED, mark

__all__ = ["without_shapes", "without_userinfo"]


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
    except ValueError:  # pragma: no cover  (the patterns let only whole base64 through)
        return b""


def _sk(match: re.Match[str]) -> str:
    return mark("api_key") if _is_random(match[1]) else match[0]


def _jwt(match: re.Match[str]) -> str:
    # a header is JSON; `monkeyJumping.somewhereElse` is not
    head = _decoded(match[0][:12])
    is_json = len(head) == 9 and head.isascii() and head.decode("ascii").isprintable()
    return mark("jwt") if match[2] and is_json else match[0]


def _bearer(match: re.Match[str]) -> str:
    run = match[2]
    looks = (len(run) >= 8 and any(c.isdigit() for c in run)) or (len(run) >= 20 and "-" not in run and "/" not in run)
    return match[1] + mark("bearer") if looks else match[0]


def _basic(match: re.Match[str]) -> str:
    pair = _decoded(match[2])
    return match[1] + mark("basic") if b":" in pair and all(byte >= 32 for byte in pair) else match[0]


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
        made.append((literal, partial(pattern.sub, judge or mark(name))))
    return made


_PEM_EDGE = r"(?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"
_PEM_BEGIN = re.compile(f"(-----BEGIN {_PEM_EDGE})")
_PEM_END = re.compile(f"-----END {_PEM_EDGE}")
_PEM_CUT = re.compile(  # a key without its END: lines of base64, the last of them perhaps short
    r"(?:(?:\s|\\+[nr])*(?:(?:Proc-Type|DEK-Info|Version|Comment): ?[^\r\n\\]*|[A-Za-z0-9+/=]{12,}))+"
    r"(?:(?:\s|\\+[nr])*[A-Za-z0-9+/=]{1,11}(?=[\r\n\\]|\W*\Z))?"
)


def _private_keys(text: str) -> str:
    before, *begun = _PEM_BEGIN.split(text)
    out = [before]
    for begin, rest in zip(begun[::2], begun[1::2], strict=True):
        key = _PEM_END.search(rest) or _PEM_CUT.match(rest)
        out += (mark("private_key"), rest[key.end() :]) if key else (begin, rest)
    return "".join(out)


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
_LITERALS = "|".join(re.escape(literal) for _, _, shapes in _SHAPES for literal, _ in shapes)
_CUT = re.compile(rf"(?<![A-Za-z0-9])(?:{_LITERALS})[A-Za-z0-9._/-]{{8,}}\Z")
_LONGEST_CUT: Final = 200  # characters in front of the mark that are looked at; so much of any secret has its shape
_BEARER = re.compile(r"((?:bearer(?:[ \t]|%20|\+)+)+)([A-Za-z0-9._~+/=-]+)", re.IGNORECASE | re.ASCII)
_BASIC = re.compile(r"((?:basic(?:[ \t]|%20|\+)+)+)([A-Za-z0-9+/_-]+={0,2})", re.IGNORECASE | re.ASCII)
_USERINFO = re.compile(r"""(:(?:\\?/){2})([^\s/?#"'<>\\]+)@""")


def _userinfo(match: re.Match[str]) -> str:
    has_password = ":" in match[2] or len(match[2]) >= 20  # `git@` is a name, not a secret
    return f"{match[1]}{REDACTED}@" if has_password else match[0]


def without_userinfo(text: str) -> str:
    """Return `text` with the user and password in its URLs replaced, `https://[redacted]@host`."""
    return _USERINFO.sub(_userinfo, text) if "://" in text or ":\\/\\/" in text else text


def _without_cut(text: str) -> str:
    """Replace the beginning of a secret whose rest was cut, and with it the shape."""
    at = text.rfind("…[cut")
    begun = _CUT.search(text, max(at - _LONGEST_CUT, 0), at) if at > 0 else None
    return f"{text[: begun.start()]}{mark('cut')}{text[at:]}" if begun else text


def without_shapes(text: str) -> str:
    """Return `text` with the secrets that are known by their shape replaced; the sentence around them stays."""
    for sign, gate, shapes in _SHAPES:
        if sign in text and (gate is None or gate.search(text)):
            for literal, scrub in shapes:
                if literal in text:
                    text = scrub(text)
    capital = "B" in text
    if "earer" in text or (capital and "EARER" in text):
        text = _BEARER.sub(_bearer, text)
    if "asic" in text or (capital and "ASIC" in text):
        text = _BASIC.sub(_basic, text)
    return _without_cut(text) if text.endswith("]") else text
