"""An OpenID Connect provider whose key the tests hold, so that they can sign what no honest provider would."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT = "node"


@dataclass(frozen=True)
class KeyHolder:
    """A provider that only says who it is and which keys it has."""

    url: str
    key: RSAKey

    def token(self, *, key: RSAKey | None = None, kid: str = "k1", **claims: Any) -> str:
        """A token of an administrator for the node; claims that are None are left out."""
        now = int(time.time())
        right = {"iss": self.url, "aud": CLIENT, "sub": "u", "iat": now, "exp": now + 600, "roles": ["admin"]}
        chosen = {name: value for name, value in (right | claims).items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": kid}, chosen, key or self.key)

    def token_by_its_public_key(self) -> str:
        """A token whose secret is what everybody can read (RFC 8725 2.1)."""
        public = json.dumps(self.key.as_dict(private=False)).encode()
        _, claims, _ = self.token().split(".")
        read = json.loads(_decoded(claims))
        return jwt.encode({"alg": "HS256", "kid": "k1"}, read, OctKey.import_key(public), algorithms=["HS256"])

    def token_without_signature(self) -> str:
        head = _encoded(b'{"alg":"none"}')
        return f"{head}.{self.token().split('.')[1]}."


@contextmanager
def start_key_holder() -> Iterator[KeyHolder]:
    """Serve a description and a public key."""
    key = RSAKey.generate_key(2048, parameters={"kid": "k1", "use": "sig"})
    answers: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers.get(self.path)).encode()
            self.send_response(200 if self.path in answers else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        answers["/.well-known/openid-configuration"] = {
            "issuer": url, "jwks_uri": f"{url}/keys", "authorization_endpoint": f"{url}/auth",
            "token_endpoint": f"{url}/token",
        }  # fmt: skip
        answers["/keys"] = {"keys": [key.as_dict(private=False)]}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield KeyHolder(url, key)
        finally:
            server.shutdown()
            thread.join()


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")
