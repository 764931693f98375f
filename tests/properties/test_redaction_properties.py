"""Whatever surrounds a secret, no part of it leaves, and redacting never raises."""

from __future__ import annotations

import json
import string
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from rootspan.redaction import REDACTED, Redactor

B62 = string.ascii_letters + string.digits
ALL = Redactor(pii={"email", "phone", "card", "iban", "ssn", "ip"})
REDACTOR = Redactor()
# the characters from which the patterns are made, so that what looks almost like a secret is common
CHARACTERS = st.one_of(st.characters(), st.sampled_from("\ud800\0 \n\t\"'`\\:=&?@/.-_[]{}();,+%09aAzZ"))
TEXT = st.text(CHARACTERS, max_size=30)
BEGINNINGS = """
    sk- eyJ ghp_ AKIA Bearer Basic -----BEGIN_PRIVATE_KEY----- password= token: "secret":{ https://a:b@ cookie:
    authorization: digest --token xoxb- SG. hooks.slack.com/ %3D %40 4111111111111111 DE89 ::1 +49 a@b.co
"""
ALMOST = st.lists(
    st.one_of(
        TEXT,
        st.sampled_from(BEGINNINGS.split()).map(lambda word: word.replace("_P", " P").replace("_K", " K")),
        st.text(B62, min_size=12, max_size=40),
    ),
    max_size=8,
).map("".join)


def run(size: int, alphabet: str = B62) -> st.SearchStrategy[str]:
    """Text that looks random: it always has digits, capitals and small letters."""
    return st.tuples(*[st.sampled_from(alphabet)] * (size - 6)).map(lambda letters: "q7R" + "".join(letters) + "W4z")


SECRETS = st.one_of(
    st.builds("".join, st.tuples(st.sampled_from(["sk-", "sk-proj-", "sk-ant-api03-"]), run(40, B62 + "-_"))),
    st.builds("".join, st.tuples(st.sampled_from(["ghp_", "gho_", "npm_", "hf_", "sk_live_", "gsk_"]), run(36))),
    st.builds("".join, st.tuples(st.sampled_from(["xoxb-1-", "glpat-", "AIza", "GOCSPX-", "ya29."]), run(38))),
    st.text(string.ascii_uppercase + string.digits, min_size=16, max_size=16).map("AKIA".__add__),
    st.builds("eyJhbGciOiJIUzI1NiJ9.{}.{}".format, run(30, B62 + "-_"), run(40, B62 + "-_")),
    st.builds("SG.{}.{}".format, run(22, B62 + "-_"), run(43, B62 + "-_")),
)  # fmt: skip
# what may stand at a secret: anything that does not continue the word
BEFORE = TEXT.map(lambda text: text + " ") | st.sampled_from(
    ["", '"', "\n", "\\n", "(", "=", "密", ": ", "%20", "\\u0020"]
)
AFTER = TEXT.map(lambda text: " " + text) | st.sampled_from(["", '"', "\n", "\\n", ")", ", ", "密", "&x=1", "'"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
DENIED = st.sampled_from(
    ["password", "apiKey", "X-API-Key", "client_secret", "accessToken", "Set-Cookie", "AWSSecretKey", "credentials"]
)


def fragments(secret: str) -> set[str]:
    body = secret[8:] if len(secret) > 24 else secret[4:]
    return {body[at : at + 8] for at in range(len(body) - 7)}


@st.composite
def hidden(draw: st.DrawFn, secret: st.SearchStrategy[str] = SECRETS) -> tuple[str, Any]:
    """A secret, and a nested value with it somewhere inside: in a text, a key, or JSON in a text."""
    found = draw(secret)
    value: Any = draw(BEFORE) + found + draw(AFTER)
    for _ in range(draw(st.integers(0, 5))):
        how = draw(st.sampled_from(["list", "dict", "key", "json"]))
        if how == "list":
            value = [*draw(st.lists(JSON, max_size=2)), value, *draw(st.lists(JSON, max_size=2))]
        elif how == "dict":
            value = {**draw(st.dictionaries(TEXT, JSON, max_size=2)), draw(TEXT): value}
        elif how == "key" and isinstance(value, str):
            value = {value: draw(JSON)}
        else:
            value = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return found, value


@given(hidden())
def test_no_part_of_a_secret_leaves(case: tuple[str, Any]) -> None:
    secret, value = case
    around = json.dumps(value, ensure_ascii=False).replace(secret, "")
    for redactor in (REDACTOR, ALL):
        out = json.dumps(redactor.value("p", value), ensure_ascii=False)
        assert not [part for part in fragments(secret) if part in out and part not in around]


@given(DENIED, JSON, st.lists(st.sampled_from(["list", "dict"]), max_size=5))
def test_a_denied_key_takes_whatever_it_has(key: str, value: Any, levels: list[str]) -> None:
    nested: Any = {key: value}
    expected: Any = {key: REDACTED}
    for level in levels:
        nested, expected = ([nested], [expected]) if level == "list" else ({"a": nested}, {"a": expected})
    assert REDACTOR.value("p", nested) == expected


@given(DENIED, st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=30), TEXT, st.integers(0, 3))
def test_a_value_in_json_in_text_disappears_however_often_it_is_escaped(
    key: str, value: str, other: str, level: int
) -> None:
    value = "q7R" + value + "W4z"
    text = json.dumps({"a": other, key: value, "b": "kept"})
    expected = json.dumps({"a": other, key: REDACTED, "b": "kept"})
    assume(REDACTOR.text("p", expected) == expected)  # the other text has no secret of its own
    for _ in range(level):
        text, expected = json.dumps({"text": text}), json.dumps({"text": expected})
    assert REDACTOR.text("p", text) == expected


@given(DENIED, st.text(B62 + "!#$%*+/:?@^_|~-", min_size=1, max_size=30), TEXT, TEXT)
def test_an_assigned_value_disappears(key: str, value: str, before: str, after: str) -> None:
    value = "q7R" + value + "W4z"
    assert value not in REDACTOR.text("p", f"{before} {key}={value} {after}")
    assert value not in REDACTOR.text("p", f"https://a.b/c?x=1&{key}={value}&y={after}")


@given(st.one_of(TEXT, ALMOST))
def test_redacting_text_twice_is_redacting_it_once(text: str) -> None:
    for redactor in (REDACTOR, ALL, Redactor(text=False)):
        once = redactor.text("p", text)
        assert isinstance(once, str)
        assert redactor.text("p", once) == once


@given(JSON | st.dictionaries(ALMOST, ALMOST))
def test_a_value_keeps_its_shape(value: Any) -> None:
    before = json.dumps(value)
    out = ALL.value("p", value)
    assert json.dumps(value) == before
    assert type(out) is type(value) or isinstance(out, str)
    if isinstance(value, str):
        assert isinstance(out, str)
    elif not isinstance(value, (int, float)) and value is not None:
        assert len(out) == len(value)


PLAIN = Redactor(text=False)
HOLDING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ALMOST | SECRETS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | DENIED | SECRETS, inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([REDACTOR, PLAIN, Redactor(secrets=["q7R-our-own-key-W4z"])]), HOLDING)
def test_what_looks_clean_is_what_the_walk_leaves_as_it_is(redactor: Redactor, value: Any) -> None:
    walked = redactor._walk(value, 0, redactor._leaf)
    assert walked == value or not redactor._is_clean(value, 0)
    assert redactor.value("input", value) == walked
