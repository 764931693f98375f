"""Secrets by their shape, such as `sk-...`, a JWT or a private key, and the userinfo of a URL.

A pattern consumes the whole run that it may match and judges it afterwards, so it never starts again inside.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from rootspan.redaction.marks import REDACTED, mark

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
    except ValueError:
        return b""


def _sk(match: re.Match[str]) -> str:
    return mark("api_key") if _is_random(match[1]) else match[0]


def _xox(match: re.Match[str]) -> str:
    return mark("slack_token") if any(c.isdigit() for c in match[1]) else match[0]


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


_Shape = tuple[str, Callable[[str], str]]  # the head of a shape, and what replaces it in a text


def _shape(name: str, head: str, body: str, *, starts: bool = False, judge: Any = None) -> _Shape:
    """The head is a pattern of one width; it comes first, so that `re` looks for it before anything else.

    `starts`: the head must not continue a word (an escape such as `\\n` or `%20` in front of it is no word).
    """
    fronts = r"(?<![A-Za-z0-9]", r"(?<=\\[nrtbf]", "(?<=%[0-9A-Fa-f]{2}", r"(?<=\\u[0-9A-Fa-f]{4}"
    edge = f"(?:{'|'.join(f'{front}{head})' for front in fronts)})" if starts else ""
    return head, partial(re.compile(head + edge + body).sub, judge or mark(name))


def _gate(sign: str, shapes: list[_Shape]) -> re.Pattern[str]:
    """Return what finds any of the heads beginning at a sign in each of them, which `re` skips to."""
    parted = (head.rpartition(sign) for head, _ in shapes)
    return re.compile(f"{sign}(?:{'|'.join(f'(?<={before}{sign}){after}' for before, _, after in parted)})")


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
_SHAPES: Final[dict[str, list[_Shape]]] = {
    "-": [
        ("-----BEGIN", _private_keys),
        _shape("api_key", "sk-", f"({_RUN}*)", starts=True, judge=_sk),
        _shape("slack_token", "xox[abeoprs]-", r"([A-Za-z0-9-]{10,})", starts=True, judge=_xox),
        _shape("gitlab_token", "glpat-", rf"{_RUN}{{16,}}(?:\.{_RUN}{{2,}})*"),
        _shape("google_secret", "GOCSPX-", rf"{_RUN}{{20,}}"),
        _shape("api_key", "xai-", r"(?:[a-z]{3,4}-)?[A-Za-z0-9]{24,}", starts=True),
        _shape("api_key", "(?:pplx|tvly)-", r"(?:[a-z]{3,4}-)?[A-Za-z0-9]{24,}", starts=True),
        _shape("api_key", "nvapi-", rf"{_RUN}{{24,}}", starts=True),
        _shape("api_key", "csk-", r"[A-Za-z0-9]{24,}", starts=True),
    ],
    "_": [
        _shape("github_token", "gh[pousr]_", r"[A-Za-z0-9_]{20,}(?:[.-][A-Za-z0-9_-]{10,})*"),
        _shape("github_token", "github_pat_", r"[A-Za-z0-9_]{20,}"),
        _shape("stripe_key", "[rs]k_(?:live|test)_", r"[A-Za-z0-9]{10,}", starts=True),
        _shape("npm_token", "npm_", r"[A-Za-z0-9]{30,}"),
        _shape("huggingface_token", "hf_", r"[A-Za-z0-9]{30,}"),
        *(
            _shape("api_key", head, r"(?:[a-z]{2}_)?[A-Za-z0-9]{24,}[A-Za-z0-9_+/=]*", starts=True)
            for head in ("gsk_", "whsec_", "lsv2_", "r8_")
        ),
        _shape("api_key", "pcsk_", r"[A-Za-z0-9_]{24,}", starts=True),
        _shape("api_key", "tgp_v1_", rf"{_RUN}{{24,}}", starts=True),
    ],
    "K": [_shape("aws_key_id", "AKIA", "[A-Z0-9]{16,}")],
    "S": [_shape("aws_key_id", "ASIA", "[A-Z0-9]{16,}")],
    "z": [_shape("google_key", "AIza", rf"{_RUN}{{35,}}")],
    "J": [_shape("jwt", "eyJ", rf"({_RUN}*)((?:\.{_RUN}{{8,}}(?:\.{_RUN}*){{0,3}})?)", judge=_jwt)],
    "G": [_shape("sendgrid_key", r"SG\.", rf"{_RUN}{{16,}}\.{_RUN}{{16,}}", starts=True)],
    "Q": [_shape("google_key", r"AQ\.", rf"{_RUN}{{35,}}", starts=True)],
    "9": [_shape("google_token", r"ya29\.", rf"{_RUN}{{20,}}(?:\.{_RUN}{{4,}})*")],
    "slack": [_shape("slack_webhook", r"hooks\.slack\.com", r"(?:\\?/[A-Za-z0-9_-]+){2,}")],
}
"""By a sign in their heads that is rare in a text."""
_GROUPS = [(sign, _gate(sign, shapes), [scrub for _, scrub in shapes]) for sign, shapes in _SHAPES.items()]
_HEADS = "|".join(head for shapes in _SHAPES.values() for head, _ in shapes)
_CUT = re.compile(rf"(?<![A-Za-z0-9])(?:{_HEADS})[A-Za-z0-9._/-]{{8,}}\Z")
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
    for sign, gate, scrubs in _GROUPS:
        if sign in text and gate.search(text):
            for scrub in scrubs:
                text = scrub(text)
    capital = "B" in text
    if "earer" in text or (capital and "EARER" in text):
        text = _BEARER.sub(_bearer, text)
    if "asic" in text or (capital and "ASIC" in text):
        text = _BASIC.sub(_basic, text)
    return _without_cut(text) if text.endswith("]") else text
