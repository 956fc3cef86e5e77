"""OpenID Connect: authorisation code with PKCE for people (OIDC Core 3.1, RFC 7636), signed tokens for programs."""

from __future__ import annotations

import hmac
import json
import os
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlencode

import httpx
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from dicom_node.access.callers import Caller
from dicom_node.access.errors import NoRoleError, NotSignedInError, ProviderError
from dicom_node.access.pending import Pending
from dicom_node.access.roles import RIGHTS, Role
from dicom_node.settings import OidcSettings

TIMEOUT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 2**20
DISCOVERY_S: Final = 3600.0  # what the provider says of itself is read again after this time
KEYS_S: Final = 60.0  # and its keys at most once in this time, for a token with a key that is not known
LEEWAY_S: Final = 60  # between the clocks
AGAIN_S: Final = 5.0  # after the provider could not be asked, it is not asked again for this time
WAIT_S: Final = 2.0  # for another request that is asking it
# Signatures only: neither none nor a secret that both sides know (RFC 8725 3.1).
ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
_ANSWER_FAILED: Final = 400
_DISCOVERY: Final = "/.well-known/openid-configuration"


class OidcProvider:
    """The provider that the settings name."""

    def __init__(self, settings: OidcSettings) -> None:
        if settings.issuer is None:
            raise ValueError("oidc.issuer is empty")
        self._settings = settings
        self._issuer = str(settings.issuer).rstrip("/")
        self._lock = threading.Lock()
        self._metadata: tuple[float, Mapping[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None
        self._failed: tuple[float, ProviderError] | None = None

    def check(self) -> None:
        """Ask the provider who it is; raise `ProviderError` if it does not answer as it should."""
        self._check_issuer(self._ask("GET", self._issuer + _DISCOVERY))

    def end(self, redirect_uri: str) -> str | None:
        """Return the address at the provider where a person signs out (RP-Initiated Logout 2); None if it has none."""
        try:
            address = self._said("end_session_endpoint")
        except ProviderError:
            return None
        query = {"client_id": self._settings.client_id, "post_logout_redirect_uri": redirect_uri}
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"

    def begin(self, redirect_uri: str, pending: Pending) -> str:
        """Return the address at the provider where a person signs in.

        Raises
        ------
        ProviderError
            The provider does not answer, or not as OpenID Connect has it.
        """
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": self._settings.scope,
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": pending.challenge,
            "code_challenge_method": "S256",
        }
        address = self._said("authorization_endpoint")
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"

    def finish(self, code: str, redirect_uri: str, pending: Pending) -> Caller:
        """Exchange a code for a token; return whose it is.

        Raises
        ------
        NotSignedInError
            The provider refuses the code, or the token is not for this node and this sign-in.
        NoRoleError
            The person has no role here.
        ProviderError
            The provider does not answer.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": pending.verifier,
            "client_id": self._settings.client_id,
        }
        answer = self._post_for_token(form)
        claims = self._claims(str(answer.get("id_token", "")), self._settings.client_id)
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(errors="replace"), pending.nonce.encode()):
            raise NotSignedInError("the provider's token is for another sign-in", has_token=True)
        return self._caller(claims)

    def by_token(self, text: str) -> Caller:
        """Return whose token of the provider it is; raises as `finish` does."""
        return self._caller(self._claims(text, self._settings.audience or self._settings.client_id))

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        name = str(claims.get(self._settings.name_claim) or claims["sub"])[:100]
        roles = [role for value in _values(claims, self._settings.roles_claim) if (role := self._role(value))]
        if not roles:
            raise NoRoleError(name, self._settings.roles_claim)
        return Caller(name, max(roles, key=lambda role: len(RIGHTS[role])))

    def _role(self, value: str) -> Role | None:
        if self._settings.roles:
            known = self._settings.roles.get(value)
            return None if known is None else Role(known)
        return Role(value) if value in set(Role) else None

    def _claims(self, text: str, audience: str) -> Mapping[str, Any]:
        """Return the claims of a signed token, after everything about it was checked."""
        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self._said("issuer")},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            sub={"essential": True},
        )
        try:
            try:
                token = jwt.decode(text, self._key_set(), algorithms=ALGORITHMS)
            except InvalidKeyIdError:  # the provider may have new keys
                token = jwt.decode(text, self._key_set(is_new=True), algorithms=ALGORITHMS)
            registry.validate(token.claims)
        except ExpiredTokenError as error:
            raise NotSignedInError("the provider's token is expired", has_token=True) from error
        except (JoseError, ValueError) as error:
            finding = f"the provider's token is not one for this node ({type(error).__name__})"
            if isinstance(error, InvalidClaimError) and error.claim in ("iat", "nbf"):
                finding = (
                    "the provider's token is from the future, compare the clocks of this machine and of the provider"
                )
            raise NotSignedInError(finding, has_token=True) from error
        return token.claims

    def _said(self, name: str) -> str:
        """Return what the provider says of itself (OIDC Discovery 4); addresses are https, as the issuer is."""
        with self._alone():
            now_s = time.monotonic()
            if self._metadata is None or now_s - self._metadata[0] > DISCOVERY_S:
                self._metadata = now_s, self._check_issuer(self._get_once(self._issuer + _DISCOVERY))
            value = self._metadata[1].get(name)
        if not isinstance(value, str):
            raise ProviderError(self._issuer, f"it does not say its {name}")
        if self._issuer.startswith("https:") and name != "issuer" and not value.startswith("https:"):
            raise ProviderError(self._issuer, f"its {name} is not called over https")
        return value

    def _check_issuer(self, found: Mapping[str, Any]) -> Mapping[str, Any]:
        if str(found.get("issuer", "")).rstrip("/") != self._issuer:
            raise ProviderError(self._issuer, f"it calls itself {str(found.get('issuer'))[:80]!r}")
        return found

    def _key_set(self, *, is_new: bool = False) -> KeySet:
        address = self._said("jwks_uri")
        with self._alone():
            now_s = time.monotonic()
            age_s = DISCOVERY_S + 1 if self._keys is None else now_s - self._keys[0]
            if self._keys is None or age_s > DISCOVERY_S or (is_new and age_s > KEYS_S):
                try:
                    self._keys = now_s, KeySet.import_key_set(self._get_once(address))  # type: ignore[arg-type]
                except (JoseError, KeyError, TypeError, ValueError) as error:
                    raise ProviderError(self._issuer, "its keys cannot be read") from error
            return self._keys[1]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one request ask the provider; others wait a moment: anybody may send tokens, and threads are few."""
        if not self._lock.acquire(timeout=WAIT_S):
            raise ProviderError(self._issuer, "it has not answered yet")
        try:
            yield
        finally:
            self._lock.release()

    def _get_once(self, address: str) -> Mapping[str, Any]:
        """Return what the provider answers; raise what it raised a moment ago."""
        if self._failed is not None and time.monotonic() - self._failed[0] < AGAIN_S:
            raise ProviderError(*self._failed[1].args)
        try:
            return self._ask("GET", address)
        except ProviderError as error:
            self._failed = time.monotonic(), error
            raise

    def _post_for_token(self, form: dict[str, str]) -> Mapping[str, Any]:
        variable = self._settings.client_secret_env
        auth = None
        if variable is not None:
            secret = os.environ.get(variable, "")
            if not secret:
                raise ProviderError(
                    self._issuer, f"the environment variable {variable} with the client's secret is not set"
                )
            auth = httpx.BasicAuth(self._settings.client_id, secret)
        return self._ask("POST", self._said("token_endpoint"), form, auth)

    def _ask(
        self, method: str, address: str, form: dict[str, str] | None = None, auth: httpx.Auth | None = None
    ) -> Mapping[str, Any]:
        """Return the JSON object that the provider answers; redirects are not followed."""
        ca_file = self._settings.ca_file
        try:
            verify: ssl.SSLContext | bool = True if ca_file is None else ssl.create_default_context(cafile=ca_file)
            with (
                httpx.Client(verify=verify, timeout=TIMEOUT_S) as client,
                client.stream(method, address, data=form, auth=auth) as answer,
            ):
                body, end_at = b"", time.monotonic() + TIMEOUT_S
                for piece in answer.iter_bytes():
                    body += piece
                    if time.monotonic() > end_at:
                        raise ProviderError(self._issuer, f"its answer was not complete within {TIMEOUT_S:g} s")
                    if len(body) > MAX_ANSWER_BYTES:
                        raise ProviderError(self._issuer, "its answer is too long")
            if answer.status_code == _ANSWER_FAILED and method == "POST":
                raise NotSignedInError("the provider refused to say who you are; sign in once more")
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                finding = "it does not take this node for its client; correct oidc.client_id and oidc.client_secret_env"
                raise ProviderError(self._issuer, finding)
            if answer.status_code != httpx.codes.OK:
                raise ProviderError(self._issuer, f"it answers {answer.status_code}")
            found = json.loads(body)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise ProviderError(self._issuer, f"it cannot be asked ({type(error).__name__})") from error
        if not isinstance(found, dict):
            raise ProviderError(self._issuer, "it does not answer with an object")
        return found


def _values(claims: Mapping[str, Any], path: str) -> list[str]:
    """Return the texts of a claim; dots lead into claims, unless a claim has the whole name."""
    found: Any = claims
    for key in [path] if path in claims else path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return [found] if isinstance(found, str) else [one for one in found or () if isinstance(one, str)]
