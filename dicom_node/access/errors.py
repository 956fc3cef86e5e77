"""Why a request is refused before anything answers it."""

from __future__ import annotations

from dicom_node.access.roles import Right, Role, roles_with
from dicom_node.errors import NodeError, Refused, Transient


class AccessError(NodeError):
    """Base of this room's errors."""

    code = "access"


class NotSignedInError(AccessError, Refused):
    """A request shows no token, or one that does not count."""

    code = "not-signed-in"

    def __init__(self, finding: str, *, has_token: bool = False) -> None:
        super().__init__(finding)
        self.has_token = has_token

    def __str__(self) -> str:
        return f"{self.args[0]}; sign in on the page, or send the header Authorization: Bearer TOKEN"


class NotPermittedError(AccessError, Refused):
    """Who sent the request is known, and may not do this."""

    code = "not-permitted"

    def __init__(self, name: str, role: Role, right: Right) -> None:
        super().__init__(name, role, right)

    def __str__(self) -> str:
        name, role, right = self.args
        others = " or ".join(roles_with(right))
        return f"{name} has the role {role} and may not {right}; ask for the role {others}"


class ClosedRouteError(AccessError, Refused):
    """Nobody has said who may use a route."""

    code = "closed-route"

    def __str__(self) -> str:
        return "nobody may do this: the table of rights (dicom_node/access/table.py) has no line for it"


class ForeignRequestError(AccessError, Refused):
    """A request came from another site, or calls this node by a name that it does not know."""

    code = "foreign-request"

    def __init__(self, finding: str, way_out: str) -> None:
        super().__init__(finding, way_out)

    def __str__(self) -> str:
        finding, way_out = self.args
        return f"{finding}; nothing was changed, {way_out}"


class TooManyFailuresError(AccessError, Transient):
    """An address has sent too many wrong tokens."""

    code = "too-many-failures"

    def __init__(self, wait_s: int) -> None:
        super().__init__(wait_s)

    @property
    def wait_s(self) -> int:
        """Seconds until a token is looked at again."""
        return int(self.args[0])

    def __str__(self) -> str:
        return f"too many wrong tokens came from your address; try again in {self.args[0]} s"


class TooManyRequestsError(AccessError, Transient):
    """A caller sends more requests than the settings allow."""

    code = "too-many-requests"

    def __init__(self, name: str, per_minute: int, wait_s: int) -> None:
        super().__init__(name, per_minute, wait_s)

    @property
    def wait_s(self) -> int:
        """Seconds until the next request is answered."""
        return int(self.args[2])

    def __str__(self) -> str:
        name, per_minute, wait_s = self.args
        return f"{name} has sent more than {per_minute} requests in a minute; try again in {wait_s} s"


class NoRoleError(AccessError, Refused):
    """The provider knows who it is, and the node has no role for them."""

    code = "no-role"

    def __init__(self, name: str, claim: str) -> None:
        super().__init__(name, claim)

    def __str__(self) -> str:
        name, claim = self.args
        return f"{name} has no role at this node; ask for one (no value of the claim {claim} is in oidc.roles)"


class ProviderError(AccessError, Transient):
    """The OpenID Connect provider cannot be asked, or does not answer as it should."""

    code = "provider"

    def __init__(self, issuer: str, finding: str) -> None:
        super().__init__(issuer, finding)

    def __str__(self) -> str:
        issuer, finding = self.args
        return f"{issuer}: {finding}; try again, or sign in with a token of this node"


class OidcMissingError(AccessError, Refused):
    """What OpenID Connect needs is not installed."""

    code = "oidc-missing"

    def __init__(self, package: str) -> None:
        super().__init__(package)

    def __str__(self) -> str:
        return f"web.access is oidc, and {self.args[0]} is not installed; pip install 'dicom-node[oidc]'"


class TokenRefusedError(AccessError, Refused):
    """A token cannot be made as it is wanted."""

    code = "token-refused"

    def __init__(self, what: str, found: str, expected: str) -> None:
        super().__init__(what, found[:80], expected)

    def __str__(self) -> str:
        what, found, expected = self.args
        return f"{what} is {found!r}, expected {expected}; no token was made"
