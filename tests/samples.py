"""Secrets of every shape that is known, none of them real."""

from __future__ import annotations

import base64

B62 = "Zx8Kq2Lm9Np4Rt6Vw1Yb3Dc5Fg7Hj0Ss"  # 32 characters
PEM_LINES = "\n".join(B62 + B62 for _ in range(4))
HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
JWT = f"{HEADER}.{B62}.{B62}-_x"

# put together here, so that no scanner takes this file for a leak
SHAPES = {
    "openai": "sk-" + B62 + B62[:16],
    "openai project": "sk-proj-" + B62 + "_-" + B62,
    "anthropic": "sk-ant-api03-" + B62 + "-" + B62 + "AA",
    "langfuse": "sk-lf-" + "0f3a9c22-1b7d-4e55-9a01-7c6d5e4f3a2b",
    "aws": "AK" + "IAIOSFODNN7EXAMPLE",
    "aws session": "AS" + "IAIOSFODNN7EXAMPLE",
    "github personal": "gh" + "p_" + B62 + "abcd",
    "github oauth": "gh" + "o_" + B62 + "abcd",
    "github user": "gh" + "u_" + B62 + "abcd",
    "github server": "gh" + "s_" + B62 + "abcd",
    "github refresh": "gh" + "r_" + B62 + "abcd",
    "github fine": "github" + "_pat_" + B62 + "_" + B62,
    "google": "AI" + "za" + B62 + "abc",
    "google oauth": "ya" + "29." + B62 + "-_" + B62,
    "google secret": "GOC" + "SPX-" + B62,
    "slack": "xo" + "xb-123456789012-123456789012-" + B62,
    "slack app": "xo" + "xp-123456789012-" + B62,
    "slack webhook": "hooks.slack" + ".com/services/T00000000/B00000000/" + B62,
    "stripe": "sk" + "_live_" + B62,
    "stripe restricted": "rk" + "_live_" + B62,
    "stripe test": "sk" + "_test_" + B62,
    "gitlab": "gl" + "pat-" + B62[:20],
    "npm": "np" + "m_" + B62 + "abcd",
    "hugging face": "h" + "f_" + B62 + "ab",
    "sendgrid": "S" + "G." + B62[:22] + "." + B62 + "abcdefghijk",
    "groq": "gs" + "k_" + B62,
    "xai": "xa" + "i-" + B62,
    "tavily": "tv" + "ly-dev-" + B62,
    "google auth": "A" + "Q.Ab8" + B62 + B62[:16],
    "nvidia": "nv" + "api-" + B62 + B62,
    "cerebras": "cs" + "k-" + B62 + B62[:16],
    "pinecone": "pc" + "sk_" + B62[:6] + "_" + B62 + B62,
    "replicate": "r8" + "_" + B62 + "abcde",
    "together": "tgp" + "_v1_" + B62 + "-" + B62[:10],
    "jwt": JWT,
    "jwe": f"{HEADER}.{B62}.{B62[:16]}.{B62}.{B62}",
    "pem": f"-----BEGIN RSA PRIVATE KEY-----\n{PEM_LINES}\n-----END RSA PRIVATE KEY-----",
    "pem plain": f"-----BEGIN PRIVATE KEY-----\n{PEM_LINES}\n-----END PRIVATE KEY-----",
    "pem encrypted": "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0A1B\n\n"
    f"{PEM_LINES}\n-----END EC PRIVATE KEY-----",
    "pem in json": f"-----BEGIN PRIVATE KEY-----\n{PEM_LINES}\n-----END PRIVATE KEY-----".replace("\n", "\\n"),
    "pgp": f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\n{PEM_LINES}\n-----END PGP PRIVATE KEY BLOCK-----",
}


def pieces(secret: str) -> set[str]:
    """Every part of a secret that is long enough to be one."""
    body = secret.replace("\\n", "\n")
    return {body[at : at + 12] for at in range(len(body) - 11) if B62[:4] in body[at : at + 12]} | {secret}
