"""Secrets, denied keys and personal data: what the redactor replaces, what it leaves, and what the hook may do."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import sys
import time
from typing import Any

import pytest

from rootspan.freeze import freeze
from rootspan.redaction import DROPPED, REDACTED, TOO_DEEP, Redactor
from rootspan.redaction.personal_data import PERSONAL_DATA
from rootspan.settings.options import PII
from samples import B62, PEM_LINES, SHAPES, pieces

shapes = pytest.mark.parametrize("secret", SHAPES.values(), ids=SHAPES)
AROUND = [
    ("Use ", " for the call, thanks."),
    ("", ""),
    ("(", ")"),
    ("密钥是", "，谢谢"),
    ("line\\n", '"}'),
    ("a=", ""),
    ("<", ">"),
]


@shapes
@pytest.mark.parametrize(("before", "after"), AROUND)
def test_a_secret_disappears_and_the_sentence_stays(secret: str, before: str, after: str) -> None:
    out = Redactor().text("input", before + secret + after)
    assert out.startswith(before)
    assert out.endswith(after)
    assert "[redacted:" in out
    assert not [piece for piece in pieces(secret) if piece in out]


@shapes
def test_a_secret_disappears_wherever_it_is_nested(secret: str) -> None:
    value = {"a": [{"b": ["ok", f"it is {secret} there"]}, 1], secret: None, "text": json.dumps({"x": {"y": secret}})}
    out = Redactor().value("properties", value)
    assert out["a"][0]["b"][0] == "ok"
    assert out["a"][0]["b"][1].startswith("it is [redacted:")
    assert out["a"][0]["b"][1].endswith(" there")
    assert not [piece for piece in pieces(secret) if piece in json.dumps(out)]
    assert json.loads(out["text"])["x"]["y"].startswith(("[redacted:", "hooks"))
    assert secret in value  # the caller's own is as it was


@shapes
def test_a_secret_that_was_cut_anywhere_disappears(secret: str) -> None:
    shown = secret[: 52 if secret.startswith("-----") else min(25, len(secret) - 1)]
    for size in range(len(shown), len(secret)):
        text = freeze(f"Use {secret} now" + "x" * 400, size + 4)
        out = Redactor().text("input", str(text))
        assert shown not in out
        assert out.startswith("Use ")
    assert Redactor().text("input", "to disk-management…[cut from 99 characters]").startswith("to disk-management…")


@shapes
def test_a_redacted_text_does_not_change_again(secret: str) -> None:
    redactor = Redactor(pii={"email", "phone", "card", "iban", "ssn", "ip"})
    once = redactor.text("input", f'"token": "{secret}", password={secret} and {secret}')
    assert redactor.text("input", once) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Bearer abc123def456 please", "Bearer [redacted:bearer] please"),
        ("bearer  bearer abc123def456", "bearer  bearer [redacted:bearer]"),
        ("BEARER " + "abcdefghijklmnopqrstuvwx", "BEARER [redacted:bearer]"),
        ("x=Bearer%20abc123def456", "x=Bearer%20[redacted:bearer]"),
        ("use Basic dXNlcjpwYXNz now", "use Basic [redacted:basic] now"),
        ("BASIC dXNlcjpwYXNzdw== now", "BASIC [redacted:basic] now"),
    ],
)
def test_http_credentials_in_text(text: str, expected: str) -> None:
    assert Redactor().text("input", text) == expected


def test_a_key_that_was_cut_off_disappears() -> None:
    begin = "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    redactor = Redactor()
    assert redactor.text("input", f"See {begin}{PEM_LINES}") == "See [redacted:private_key]"
    assert redactor.text("input", f"See {begin}{PEM_LINES}\nab12=\n\nOK?") == "See [redacted:private_key]\n\nOK?"
    assert redactor.text("input", f"See {begin}{PEM_LINES}\nab1") == "See [redacted:private_key]"
    whole = f"{begin}{PEM_LINES}\n-----END OPENSSH PRIVATE KEY-----"
    several = f"A {begin}{PEM_LINES}\n, B {whole}, C {whole}, D {begin}{PEM_LINES}"
    mark = "[redacted:private_key]"
    assert redactor.text("input", several) == f"A {mark}\n, B {mark}, C {mark}, D {mark}"
    assert redactor.text("input", f"What is {begin}?") == f"What is {begin}?"


ORDINARY = [
    "sk-learn and scikit-learn are the same; task-oriented dialogue with risk-averse users.",
    "pip install sk-learn-contrib-something-else-here sk-video",
    "task-550e8400-e29b-41d4-a716-446655440000 and disk-0a1b2c3d4e5f6a7b8c9d0e1f",
    "the bearer of bad news; Bearer responsibilities-and-obligations of the ring bearer.",
    "basic idea, Basic understanding, BASIC programming, basic authentication, Basic abcdefgh",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "What does -----BEGIN PRIVATE KEY----- mean?",
    "ASIA and AKIA are prefixes; ASIAN markets; AIza too; ghp_ is one, hf_hub, npm_config_registry, xoxo-love",
    "monkeyJumping.somewhereElseEntirely and keyJsonSerializationSettings.defaultValueProvider, eyJ, eyJ.defaults",
    "MSG.someLongIdentifierName.anotherLongIdentifierName",
    "task_test_initialization, risk_live_assessment, hooks.slack.com",
    "550e8400-e29b-41d4-a716-446655440000 d41d8cd98f00b204e9800998ecf8427e "
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "gpt-4o-mini-2024-07-18 claude-3-5-sonnet-20241022 meta-llama/Llama-3.1-70B-Instruct text-embedding-3-small",
    "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 4).decode(),
    "def login(user: str, password: str, token: str | None = None, secret: bytes = b'') -> bool:",
    "token = tokenizer.encode(text)\nfor token in tokens: print(token)\nkey = keys[0]; password = get_password()",
    "client = OpenAI(api_key=os.environ['OPENAI_API_KEY'])",
    "api_key=${API_KEY} token={token} secret=None, password=, Authorization: required, Cookie: chocolate chip",
    "Authorization: Basic ",
    "The secret: practice every day. One token: about four letters. Price per token: 0.03. Enter your password: ",
    '{"max_tokens": 100, "prompt_tokens": 5, "token_count": 7, "session_id": "abc", "password": null, "token": ""}',
    "password: str = Field(min_length=8)",
    "Password requirements: minimum 8 characters. Password policy: passwords expire. Password manager: Bitwarden",
    "pass: 1245, fail: 3, skipped: 0; first pass: 1500 samples",
    'token = env("KEY"); auth: (see below), passwords=[], secrets=() and pin: {x}',
    "?max_tokens=5&session_id=77&page=3#top",
    "git clone ssh://git@github.com/owner/name and see https://example.com/@user and mail a@b.org -- now",
    "run it with --verbose and --max-tokens 5 --key-style mixed, or -- later",
    "http://[::1]:8080/path?q=a:b",
    "xoxo-hugs-and-kisses, r8_dataset, pcsk_, nvapi-x, csk-x, AQ.md",
    "PWD=/home/ann/app and OLDPWD=/tmp, pwd: ~/src",
    "token: ${{ secrets.GITHUB_TOKEN }} and type User { password: String! }",
    "Your token balance: 1500, token id: 50256",
    "password: str | None = None, secret: str = vault.read(), api_key: Final[str] = KEY",
    """def f(token: str, model="gpt-4o"): ...; (password: Optional[str], user = "ann"), key(secret: string, url="x")""",
    "Opinions on passing authors' signatures vary: it is a key question, isn't it?",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert Redactor().text("input", text) is text


DENIED = """
    password Password PASSWORD userPassword user_password password2 passwd db-passwd pwd passphrase passWord passcode
    secret client_secret clientSecret CLIENT_SECRET SecretKey AWSSecretAccessKey token accessToken access_token
    X-Auth-Token xoxToken OAuthToken refresh_tokens api_key apiKey APIKey apikey X-API-Key x_api_key api.key api_keys
    openai_api_key Authorization Proxy-Authorization HTTPAuthorization auth proxy_auth Cookie cookies set-cookie
    Set-Cookie credential credentials creds private_key privateKey ssh_key access_key accessKeyId session_key
    session_token sessionid SESSIONID JSESSIONID csrf_token xsrf csrfmiddlewaretoken X-CSRFToken pin cvv ssn otp jwt
    dbpassword PGPASSWORD OPENAIAPIKEY smtp_pass DB_PASS Ocp-Apim-Subscription-Key x-functions-key shared_key
    verification_code mfaCode seed_phrase bearer totp
    X-Amz-Signature X-Amz-Security-Token sig signing_key encryptionKey account_key pw pass id_token next_token
"""
KEPT = """
    tokens prompt_tokens max_tokens completion_tokens promptTokens total-tokens tokenizer token_count token_usage
    time_to_first_token max_token cost_per_token eos_token token_type session_id sessionId session author authority
    authenticated passenger compass bypass keyboard monkey key primary_key public_key idempotency_key keys signature
    token_id hall_pass function_signature secretary opinion pins pinned design code state nonce user email
    cookiecutter plan authors
"""


@pytest.mark.parametrize("key", DENIED.split())
def test_a_denied_key_takes_its_value(key: str) -> None:
    redactor = Redactor(text=False)
    for value in ("x", 5, 1.5, True, None, ["x"], {"a": "x"}):
        assert redactor.value("properties", {"kept": 1, key: value}) == {"kept": 1, key: REDACTED}
    assert redactor.value("properties", [{"a": {key: "x"}}]) == [{"a": {key: REDACTED}}]


@pytest.mark.parametrize("key", KEPT.split())
def test_an_ordinary_key_keeps_its_value(key: str) -> None:
    value = {key: "x", "nested": [{key: 5}]}
    assert Redactor().value("properties", value) is value
    text = f'"{key}": "x", {key}=x&{key}=y'
    assert Redactor().text("input", text) is text


def test_the_tokens_of_a_model_are_no_secrets() -> None:
    """As OpenAI tells their probabilities."""
    told = {"token": "Paris", "logprob": -0.1, "top_logprobs": [{"token": "Lyon", "logprob": -3.2}]}
    assert Redactor().value("output", [told]) == [told]
    hidden = {"token": SHAPES["openai"], "logprob": -0.1, "password": "x"}
    expected = {"token": "[redacted:api_key]", "logprob": -0.1, "password": REDACTED}
    assert Redactor().value("output", hidden) == expected


def test_further_denied_keys() -> None:
    redactor = Redactor(keys=["customer number", "salary", "Kennwort"])
    value = {
        "customerNumber": 1,
        "X-Customer-Number": 2,
        "customernumber": 3,
        "salary2024": 4,
        "customer": 5,
        "number": 6,
    }
    assert redactor.value("p", value) == dict.fromkeys(list(value)[:4], REDACTED) | {"customer": 5, "number": 6}
    assert redactor.text("p", "Salary=5 customer_number=6 number=7 kennwort='x'") == (
        "Salary=[redacted] customer_number=[redacted] number=7 kennwort='[redacted]'"
    )
    assert Redactor(keys=["salary"]).value("p", {"salary": 1, "s": 2}) == {"salary": REDACTED, "s": 2}


def test_a_further_denied_key_with_a_number_is_that_one_only() -> None:
    redactor = Redactor(keys=["address2", "p1", "question_1", "Tax File 2 Number"])
    kept = {"address": 1, "ip_address": 2, "address20": 3, "p": 4, "question": 5, "question2": 6, "tax file number": 7}
    assert redactor.value("p", kept) is kept
    denied = ["address2", "Address_2", "ip-address2", "P1", "question1", "taxFile2Number", "taxfile2number"]
    assert redactor.value("p", dict.fromkeys(denied, "x")) == dict.fromkeys(denied, REDACTED)
    assert redactor.text("p", "IP address: 10.0.0.1, address2=x") == "IP address: 10.0.0.1, address2=[redacted]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password=hunter2 and so on.", "password=[redacted] and so on."),
        ("user=bob;password=hunter2;db=x", "user=bob;password=[redacted];db=x"),
        ("(password=hunter2), then", "(password=[redacted]), then"),
        ('{"password": "a\\"b c", "x": 1}', '{"password": "[redacted]", "x": 1}'),
        ('{"password": "C:\\\\", "x": 1}', '{"password": "[redacted]", "x": 1}'),
        ('{\\"token\\": \\"a\\\\\\"b\\", \\"y\\": 2}', '{\\"token\\": \\"[redacted]\\", \\"y\\": 2}'),
        ('{"text": "{\\"token\\": \\"cut off", "y": 2}', '{"text": "{\\"token\\": \\"[redacted]", "y": 2}'),
        ('{"password": 12345, "x": 1}', '{"password": "[redacted]", "x": 1}'),
        ('{"secret": {"a": ["}", 1], "b": {}}, "x": 1}', '{"secret": "[redacted]", "x": 1}'),
        ('{"secret": ["a", "b"', '{"secret": "[redacted]"'),
        ('{"api key":\n  "x"}', '{"api key":\n  "[redacted]"}'),
        ('{"password": "it\'s", "x": 1}', '{"password": "[redacted]", "x": 1}'),
        ("{'password': b'x', u'token' : u'y'}", "{'password': b'[redacted]', u'token' : u'[redacted]'}"),
        ('password = """a "b" c""" # ok', 'password = "[redacted]""" # ok'),
        ('password = """a "b" c', 'password = "[redacted]'),
        ("password='cut off\nnext line", "password='[redacted]\nnext line"),
        ("password='cut off", "password='[redacted]"),
        ("password: hunter", "password: [redacted]"),
        ("API key: 0x8f3a9c22 ok", "API key: [redacted] ok"),
        ("token: 8f3a9c22.", "token: [redacted]."),
        (
            "api_key: str = 'x', const apiKey: string = `x`",
            "api_key: str = '[redacted]', const apiKey: string = `[redacted]`",
        ),
        ("PWD=hunter2 pwd=/x", "PWD=[redacted] pwd=/x"),
        ("xoxb-1234567890-1234567890", "[redacted:slack_token]"),
        ("Server=db;Uid=sa;Pwd=/aB3k9Q;", "Server=db;Uid=sa;Pwd=[redacted];"),
        ("api_key: Optional[dict[str, str]] = 'x'", "api_key: Optional[dict[str, str]] = '[redacted]'"),
        ("Passphrase := 'x'", "Passphrase := '[redacted]'"),
        (":password => 'x', a: 1", ":password => '[redacted]', a: 1"),
        ("if password == 'x':", "if password == '[redacted]':"),
        ("headers['X-Api-Key'] = 'abc'", "headers['X-Api-Key'] = '[redacted]'"),
        ("a?token=abc&x=1&api_key=b", "a?token=[redacted]&x=1&api_key=[redacted]"),
        ("token%3Dabc", "token%3D[redacted]"),
        ("see https://u:p@ss@host/x ok", "see https://[redacted]@host/x ok"),
        ("postgres://user:pw@db:5432/x", "postgres://[redacted]@db:5432/x"),
        ('"https:\\/\\/u:p@host"', '"https:\\/\\/[redacted]@host"'),
        (f"https://{B62}@sentry.io/1", "https://[redacted]@sentry.io/1"),
        ("Authorization: Bearer abc and", "Authorization: [redacted] and"),
        ("authorization: abc123 and", "authorization: [redacted] and"),
        ('Authorization: Digest username="x", nonce="y"\nHost: a', "Authorization: [redacted]\nHost: a"),
        (
            "curl -H 'X-Api-Key: 8f3a' --password foo http://x",
            "curl -H 'X-Api-Key: [redacted]' --password [redacted] http://x",
        ),
        ("Cookie: a=b; sessionid=zz; c=d\nHost: a", "Cookie: [redacted]\nHost: a"),
        ("cookie=abc&x=1", "cookie=[redacted]&x=1"),
        ("Set-Cookie: a=b; Path=/; HttpOnly", "Set-Cookie: [redacted]"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/b\nA=b", "AWS_SECRET_ACCESS_KEY=[redacted]\nA=b"),
        ("token=abc password=token=def x=1", "token=[redacted] password=[redacted] x=1"),
        ('token: ["a\\"]b", "c]"] x=1', "token: [redacted] x=1"),
        ('"msg": "password=abc\\nnext"', '"msg": "password=[redacted]\\nnext"'),
        (
            '"msg": "Use\\npassword=abc\\r\\tAPI key: 8f3a\\nAuthorization: Bearer abc"',
            '"msg": "Use\\npassword=[redacted]\\r\\tAPI key: [redacted]\\nAuthorization: [redacted]"',
        ),
        (json.dumps(json.dumps("x\npwd: 8f3a")), json.dumps(json.dumps("x\npwd: [redacted]"))),
        ("set C:\\token=abc D:\\name=abc", "set C:\\token=[redacted] D:\\name=abc"),
        ("https://h/x?to=%2Fcb%3Ftoken%3Dabc", "https://h/x?to=%2Fcb%3Ftoken%3D[redacted]"),
        ("<user><password>a b</password><id>1</id></user>", "<user><password>[redacted]</password><id>1</id></user>"),
        ("<w:Password>x</w:Password> <token></token>", "<w:Password>[redacted]</w:Password> <token></token>"),
        ("<secret>\n<![CDATA[x>y]]></secret>", "<secret>\n<![CDATA[[redacted]]]></secret>"),
        ("<token>x<b>y</b></token> <pin>12</pin>", "<token>x<b>y</b></token> <pin>[redacted]</pin>"),
        ("<password> or <secret>x</password>", "<password> or <secret>x</password>"),
        (
            "--token a:b=c and --auth token='x' or --token key: 'x'",
            "--token [redacted] and --auth token='[redacted]' or --token key: '[redacted]'",
        ),
        ("password]] - : 'x', password: 'y'", "password]] - : 'x', password: '[redacted]'"),
        ("password]\\: hunter2", "password]\\: hunter2"),
        ("Basic dXNlcjpwYXNz\u212a", "Basic [redacted:basic]\u212a"),
        ("the security code: 8f3a", "the security code: [redacted]"),
        ("Password value: hunter2, new password: hunter", "Password value: [redacted], new password: [redacted]"),
        ("The password is: letmein, password was: hunter", "The password is: [redacted], password was: [redacted]"),
        ("Password again: letmein, password 2: hunter", "Password again: [redacted], password 2: [redacted]"),
        ("pass: 123456, password=(S3cr3t)x9!k x", "pass: [redacted], password=[redacted] x"),
        ("token=[x]abcdef123 pwd={ab}cdef12", "token=[redacted] pwd=[redacted]"),
        ("api_key: " + "k3y" * 500 + ", n: 1", "api_key: [redacted], n: 1"),
        ("password 2: hunter, password 3 = hunter", "password 2: [redacted], password 3 = [redacted]"),
        ("pass: hunter2, pass: 12345678, pass=1245", "pass: [redacted], pass: [redacted], pass=[redacted]"),
        ("get('x', auth=('bob', 'hunter2'), cookies={'sid': 'a'})", "get('x', auth=[redacted], cookies=[redacted])"),
        ("{'auth': ('bob', b'hunter2'), 'a': 1}", "{'auth': '[redacted]', 'a': 1}"),
        ("{'cookies': {'a': \"it's}\", 'b': '}'}, 'c': 1}", "{'cookies': '[redacted]', 'c': 1}"),
        ("Config(secrets={'db': {'a': ['x', ('y',)]}}, n=1)", "Config(secrets=[redacted], n=1)"),
        ("Client(credentials=Credentials(user='bob', value='hunter2'), n=1)", "Client(credentials=[redacted], n=1)"),
        ("secret = {\n  'db': 's3cr3t'\n}\nn = 1", "secret = [redacted]\nn = 1"),
        ("passwords: [hunter2, hunter3], n: 1", "passwords: [redacted], n: 1"),
        ("access_tokens=[Bob's, it's, x] n=1", "access_tokens=[redacted] n=1"),
        ('"msg": "auth={\\"a\\": \\"}\\", \\"b\\": 1} n=1"', '"msg": "auth=[redacted] n=1"'),
        ("auth=('bob', 'hunt", "auth=[redacted]"),
    ],
)
def test_a_value_behind_a_denied_key_in_text(text: str, expected: str) -> None:
    redactor = Redactor()
    assert redactor.text("input", text) == expected
    assert redactor.text("input", expected) == expected


def test_what_was_decided_before_is_bounded() -> None:
    redactor = Redactor(keys=["Größe"])
    for number in range(20_000):
        redactor.value("p", {f"key {number}": f"a{number}: b"})
    assert redactor.text("p", "größe='x' a7: b") == "größe='[redacted]' a7: b"


def test_without_text_redaction_keys_queries_and_userinfo_are_still_redacted() -> None:
    redactor = Redactor(text=False)
    text = f"{SHAPES['openai']} Bearer abc123def456 password=x, {{'password': 'x'}}"
    assert redactor.text("input", text) == text
    assert redactor.text("url", "https://u:p@h/x?a=1&token=x&b") == "https://[redacted]@h/x?a=1&token=[redacted]&b"
    assert redactor.text("query", "token=x&a=1") == "token=[redacted]&a=1"
    assert redactor.value("p", {"token": "x"}) == {"token": REDACTED}


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("email", "mail ann.o+x@ex-ample.co.uk, now", "mail [redacted:email], now"),
        ("email", "?q=a%40b.com&x (jürgen@müller.de)", "?q=[redacted:email]&x ([redacted:email])"),
        ("email", "a@b @decorator @ x@ left-pad@1.3.0 user@localhost", None),
        ("phone", "call +49 (0)30 123456-78 or 0049 30 1234567.", "call [redacted:phone] or [redacted:phone]."),
        ("phone", "(415) 555-0132, 415-555-0132, 415.555.0132, 1 415 555 0132", ", ".join(["[redacted:phone]"] * 4)),
        ("phone", "+14155550132 1-(415) 555-0132 +1 (415) 555 0132", " ".join(["[redacted:phone]"] * 3)),
        ("phone", "020 7946 0958; 07911 123456; (030) 1234567; 06 12 34 56 78", "; ".join(["[redacted:phone]"] * 4)),
        ("phone", "07911123456", "[redacted:phone]"),
        ("phone", "tel:+14155550132 whatsapp:+14155550132", "tel:[redacted:phone] whatsapp:[redacted:phone]"),
        ("phone", "Tel:415-555-0132 phone:07911123456", "Tel:[redacted:phone] phone:[redacted:phone]"),
        ("phone", "10:20 2024-01-15T10:20:30.123456789 16:10 1:100000000 a:1234567890 2001:db8:0123456789::1", None),
        ("phone", "2024-01-15T10:30:00 12345678901 1700000000.123 192.168.100.200 1,234,567 +1.23456789", None),
        ("phone", "550e8400-e29b-41d4-a716-446655440000 v1.2.3 (2024) 3.14159265358979", None),
        ("card", "4111 1111 1111 1111, 5500-0000-0000-0004", "[redacted:card], [redacted:card]"),
        ("card", "1234 4111 1111 1111 1111 x378282246310005", "1234 [redacted:card] x[redacted:card]"),
        ("card", "3782 822463 10005", "[redacted:card]"),
        ("card", "4111111111111112 9111111111111111 41111111111111111111 4111-1111 4111-1111-1111-1", None),
        ("iban", "DE89 3704 0044 0532 0130 00 OK GB82WEST12345698765432", "[redacted:iban] OK [redacted:iban]"),
        ("iban", "no9386011117947, FR14-2004-1010-0505-0001-3M02-606", "[redacted:iban], [redacted:iban]"),
        ("iban", "DE89370400440532013001 XX89370400440532013000 DE8937040044 DE893704004405320130001", None),
        ("ssn", "123-45-6789 or 123 45 6789.", "[redacted:ssn] or [redacted:ssn]."),
        ("ssn", "000-12-3456 666-12-3456 900-12-3456 123-00-4567 123-45-0000 123-45 6789 123456789", None),
        ("ssn", "1-123-45-6789", None),
        ("ip", "10.0.0.1. (255.255.255.255)", "[redacted:ip]. ([redacted:ip])"),
        ("ip", "fe80::1, ::1 2001:db8::ff00:42:8329: x", "[redacted:ip], [redacted:ip] [redacted:ip]: x"),
        ("ip", "::ffff:10.0.0.1", "[redacted:ip]"),
        ("ip", "1:2:3:4:5:6:7:8", "[redacted:ip]"),
        ("ip", "256.1.1.1 1.2.3 1.2.3.4.5 10:30:00 std::vector a::b 00:1a:2b:3c:4d:5e ::", None),
        ("ip", "1:2:3:4:5:6:7:8:9 1::2::3", None),
    ],
)  # fmt: skip
def test_personal_data(kind: str, text: str, expected: str | None) -> None:
    assert Redactor().text("input", text) == text
    redactor = Redactor(pii=[kind])
    assert redactor.text("input", text) == (text if expected is None else expected)
    everything = Redactor(pii={"email", "phone", "card", "iban", "ssn", "ip"}).text("input", text)
    assert expected is None or everything == expected


def test_a_secret_glued_to_personal_data() -> None:
    text = "4111111111111111" + SHAPES["openai"]
    assert Redactor(pii=["card"]).text("input", text) == "[redacted:card][redacted:api_key]"


def test_personal_data_in_numbers_and_keys() -> None:
    redactor = Redactor(pii={"card", "email"})
    value = {
        "a": 4111111111111111,
        "b": -4111111111111111,
        "c": 4111111111111112,
        "d": 10**4000,
        "a@b.co": 1,
        "c@d.co": 2,
    }
    assert redactor.value("p", value) == {
        "a": "[redacted:card]",
        "b": "-[redacted:card]",
        "c": 4111111111111112,
        "d": 10**4000,
        "[redacted:email]": 1,
        "[redacted:email]'": 2,
    }


def test_many_keys_that_are_redacted_alike_are_told_apart_in_few_characters() -> None:
    people = {f"ann{number}@example.com": number for number in range(2_000)}
    redacted = Redactor(pii={"email"}).value("p", {**people, "[redacted:email]'1": 0})
    assert list(redacted.values()) == [*range(2_000), 0]
    assert max(map(len, redacted)) < len("[redacted:email]") + 8


def test_exact_secrets_never_leave() -> None:
    """delivery: the API key is never in a span"""
    redactor = Redactor(
        text=False, secrets=["key-12345678", "key-12345678-9", ""], hook=lambda path, value: f"{value} key-12345678-9"
    )
    assert redactor.value("p", ["a key-12345678-9 b", {"key-12345678": 1}]) == [
        "a [redacted] b [redacted]",
        {"[redacted]": "1 [redacted]"},
    ]
    assert redactor.text("p", "a key-12345678") == "a [redacted] [redacted]"
    assert Redactor(secrets=["key-12345678-9"]).text("p", "key-12345678-9 y") == "[redacted] y"


def test_a_short_key_is_taken_where_it_stands_alone() -> None:
    redactor = Redactor(secrets=["sk-test-1", "", "0"])
    value = {"input": "ask-test-12 and sk-test-1x", "n": "10-0"}
    assert redactor.value("p", value) is value
    assert redactor.text("p", "the key (sk-test-1) is sk-test-1.") == "the key ([redacted]) is [redacted]."


def test_a_key_that_is_a_word_is_not_looked_for() -> None:
    redactor = Redactor(secrets=["test"])
    value = {"ab_test": "the greatest contest", "event": "latest_test_event", "input": "write a unit test"}
    assert redactor.value("p", value) is value
    assert redactor.text("p", "test: api_key=test") == "test: api_key=[redacted]"


def test_nothing_is_changed_in_place_and_what_is_clean_is_not_copied() -> None:
    value = {"a": [1, 2.5, None, True, "x", {"b": "y"}], "c": {}}
    assert Redactor().value("p", value) is value
    unclean = {"same": value, "password": "x", "token": REDACTED, 5: "five"}
    assert Redactor().value("p", unclean) == {"same": value, "password": REDACTED, "token": REDACTED, 5: "five"}
    assert unclean["password"] == "x"


def test_the_hook_sees_every_leaf_that_is_left() -> None:
    seen: list[tuple[str, Any]] = []

    def hook(path: str, value: Any) -> Any:
        seen.append((path, value))
        return "pro!" if value == "pro" else value

    redactor = Redactor(hook=hook)
    value = {"plan": "pro", "n": 1, "none": None, "password": "x", "list": [{"c": "Bearer abc123def456"}, 2.5, False]}
    value[f"use {SHAPES['aws']}"] = "yes"
    out = redactor.value("properties", value)
    assert out["plan"] == "pro!"
    assert seen == [
        ("properties.plan", "pro"),
        ("properties.n", 1),
        ("properties.none", None),
        ("properties.list[0].c", "Bearer [redacted:bearer]"),
        ("properties.list[1]", 2.5),
        ("properties.list[2]", False),
        ("properties.use [redacted:aws_key_id]", "yes"),
    ]
    seen.clear()
    redactor.value("input", [{"content": "hi"}])
    redactor.text("error", "broke")
    assert seen == [("input[0].content", "hi"), ("error", "broke")]


def test_the_hook_is_not_asked_for_names() -> None:
    redactor = Redactor(hook=lambda path, value: "asked")
    assert redactor.word("turn") == "turn"
    assert redactor.word(b'["turn",{"token":"x"}]') == '["turn",{"token":"[redacted]"}]'


class Odd:
    def __str__(self) -> str:
        return "odd"


class Broken:
    def __str__(self) -> str:
        raise SystemExit(3)


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("answer", "expected", "text"),
    [
        (None, None, ""),
        (5, 5, "5"),
        (True, True, "True"),
        ("y", "y", "y"),
        (["y", {"n": (1, 2)}], ["y", {"n": [1, 2]}], "['y', {'n': [1, 2]}]"),
        ({"password": "y"}, {"password": REDACTED}, "{'password': '[redacted]'}"),
        (Odd(), "odd", "odd"),
        ([Odd()], ["odd"], "['odd']"),
        (Text("t"), "t", "t"),
        ({"a": 2**70}, "{'a': 1180591620717411303424}", "{'a': 1180591620717411303424}"),
        (Broken(), DROPPED, DROPPED),
    ],
)
def test_what_the_hook_returns_is_the_value(answer: Any, expected: Any, text: str) -> None:
    redactor = Redactor(hook=lambda path, value: answer)
    out = redactor.value("p", {"a": "x"})["a"]
    assert out == expected
    assert type(out) is type(expected)
    assert redactor.text("p", "x") == text


@pytest.mark.parametrize("error", [ValueError("sensitive"), SystemExit(2), RecursionError(), asyncio.CancelledError()])
def test_a_hook_that_raises_drops_the_value_and_says_so_once_a_minute(
    error: BaseException, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """delivery: if the hook raises, the value is dropped, never sent raw"""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def hook(path: str, value: Any) -> Any:
        if value != "fine":
            raise error
        return value

    redactor = Redactor(hook=hook)
    with caplog.at_level(logging.WARNING, logger="rootspan"):
        assert redactor.value("p", {"a": "x", "b": 1, "c": "fine"}) == {"a": DROPPED, "b": DROPPED, "c": "fine"}
        assert redactor.text("p\ud800", "x") == DROPPED
        assert len(caplog.records) == 1
        now += 61
        redactor.value("p\ud800", {SHAPES["openai"]: "x"})
    assert [record.name for record in caplog.records] == ["rootspan", "rootspan"]
    assert "dropped so far: 4)" in caplog.messages[1]
    assert "sensitive" not in caplog.text
    assert SHAPES["openai"] not in caplog.text
    assert type(error).__name__ in caplog.messages[0]


def test_a_keyboard_interrupt_passes() -> None:
    """delivery 10"""

    def hook(path: str, value: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Redactor(hook=hook).value("p", "x")


def test_deep_nesting_is_cut_with_a_mark() -> None:
    """delivery 11"""
    deep: Any = "sk-" + B62
    for level in range(20_000):
        deep = [deep] if level % 2 else {"a": deep}
    assert Redactor().value("p", {"deep": deep, "b": 1})["b"] == 1
    out: Any = Redactor().value("p", deep)
    depth = 0
    while not isinstance(out, str):
        out = out["a"] if hasattr(out, "keys") else out[0]
        depth += 1
    assert (out, depth) == (TOO_DEEP, 100)


def test_a_stack_that_is_almost_used_up_does_not_raise() -> None:
    """delivery 10"""
    value: Any = ["x"]
    for _ in range(90):
        value = [value]
    redactor = Redactor()

    def descend(frames: int) -> Any:
        return descend(frames - 1) if frames else redactor.value("p", value)

    used = len(inspect.stack(0))
    answers = [descend(sys.getrecursionlimit() - used - room) for room in (40, 80, 400)]
    assert answers == [TOO_DEEP, TOO_DEEP, value]


@pytest.mark.parametrize(
    "text", ["\ud800 password=\udfff x", "\0", "İ" * 50 + " password=hunter2", "\udcffsk-", "K: \u212a"]
)
def test_odd_text_does_not_raise(text: str) -> None:
    """delivery 11"""
    redactor = Redactor(pii={"email", "phone", "card", "iban", "ssn", "ip"})
    assert "hunter2" not in redactor.text("p", text)
    assert redactor.value("p", {text: text, "k" * 300: 1, "password" + "x" * 300: 1})


def test_the_option_offers_the_kinds_of_personal_data_that_there_are() -> None:
    assert set(PII) == PERSONAL_DATA.keys()


HOSTILE = """
    sk- eyJ -----BEGIN -----BEGIN_PRIVATE_KEY----- a@a@a@ a.a@a. @ Bearer_ bearer__ basic_ 0 1_ 4111_ 411_ +1_ ( ghp:
    password password= password:_ password=" "token":{ token=\\" AKIA AIza SG. xoxb- hooks.slack.com/ ://a: ://a@ ://
    DE89_3704_ :: 1:2:3_ ::1_ 1.1.1.1_ --token_ cookie:_a=b; authorization:_basic_ = \\\\ ' %3D %40 a- - . _ ya29. key:'
    auth=( auth=('x auth=f(x='_ auth:_( auth:_[' auth:_[a1 auth:_(('it's auth=((((( auth_=_f('x "auth":('
    auth=[] auth=[], Pod(id=1,auth=[],env={}), auth:[], auth:(x), token:x1y2z3, auth=os.x, auth=getenv( cookie:
    -----BEGIN_PRIVATE_KEY-----Comment:
"""


@pytest.mark.parametrize("seed", HOSTILE.split())
def test_time_grows_no_faster_than_the_text(seed: str) -> None:
    """All patterns are linear: of 200 kB, four times 50 kB, a quadratic one would take sixteen times as long."""
    redactor = Redactor(pii={"email", "phone", "card", "iban", "ssn", "ip"})
    seed = seed.replace("_", " ").replace("ghp:", "ghp_")

    def seconds(size: int) -> float:
        text = (seed * (size // len(seed) + 1))[:size]
        start = time.thread_time()
        redactor.text("p", text)
        return time.thread_time() - start

    for _attempt in range(5):
        short = max(seconds(50_000), 0.002)
        if seconds(200_000) < 9 * short:
            return
    pytest.fail("the time grows faster than the text")
