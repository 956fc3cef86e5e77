"""Which right each route of the web server needs. A route that is not here is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dicom_node.access.roles import Right

_WEB: Final = "/dicom-web"
_STUDY: Final = f"{_WEB}/studies/{{study}}"
_SERIES: Final = f"{_STUDY}/series/{{series}}"
_INSTANCE: Final = f"{_SERIES}/instances/{{instance}}"
_FRAMES: Final = f"{_INSTANCE}/frames/{{frames}}"

RIGHTS_OF_ROUTES: Final[Mapping[str, Right]] = {
    # Health is asked by container engines and proxies, which have no token; it names no study and no person.
    "GET /health/live": Right.ANYONE,
    "GET /health/ready": Right.ANYONE,
    "GET /metrics": Right.METRICS,
    # DICOMweb
    f"GET {_WEB}/studies": Right.READ,
    f"GET {_WEB}/series": Right.READ,
    f"GET {_WEB}/instances": Right.READ,
    f"GET {_STUDY}": Right.READ,
    f"GET {_STUDY}/metadata": Right.READ,
    f"GET {_STUDY}/series": Right.READ,
    f"GET {_STUDY}/instances": Right.READ,
    f"GET {_STUDY}/rendered": Right.READ,
    f"GET {_STUDY}/thumbnail": Right.READ,
    f"GET {_SERIES}": Right.READ,
    f"GET {_SERIES}/metadata": Right.READ,
    f"GET {_SERIES}/instances": Right.READ,
    f"GET {_SERIES}/rendered": Right.READ,
    f"GET {_SERIES}/thumbnail": Right.READ,
    f"GET {_INSTANCE}": Right.READ,
    f"GET {_INSTANCE}/metadata": Right.READ,
    f"GET {_INSTANCE}/rendered": Right.READ,
    f"GET {_INSTANCE}/thumbnail": Right.READ,
    f"GET {_INSTANCE}/bulkdata/{{path:path}}": Right.READ,
    f"GET {_FRAMES}": Right.READ,
    f"GET {_FRAMES}/rendered": Right.READ,
    f"GET {_FRAMES}/thumbnail": Right.READ,
    "GET /wado": Right.READ,
    f"POST {_WEB}/studies": Right.STORE,
    f"POST {_STUDY}": Right.STORE,
    f"DELETE {_SERIES}": Right.MANAGE,
    f"DELETE {_INSTANCE}": Right.MANAGE,
    # What DICOMweb can do (OPTIONS); other methods come here only to be told that there is nothing.
    f"* {_WEB}": Right.READ,
    f"* {_WEB}/{{path:path}}": Right.READ,
    # The JSON API
    "GET /api/openapi.json": Right.READ,
    "GET /api/studies": Right.READ,
    "GET /api/studies/{study}": Right.READ,
    "GET /api/studies/{study}/history": Right.READ,
    "POST /api/studies/{study}/decisions": Right.DECIDE,
    "GET /api/series/{series}/report": Right.READ,
    "GET /api/work": Right.READ,
    "POST /api/upload": Right.STORE,
    "GET /api/jobs": Right.READ,
    "GET /api/jobs/{job}": Right.READ,
    "POST /api/jobs/{job}/{action}": Right.DECIDE,
    "GET /api/deliveries": Right.READ,
    "POST /api/deliveries/{delivery}/{action}": Right.SEND,
    # The page
    "GET /": Right.READ,
    "GET /studies": Right.READ,
    "GET /studies/counts": Right.READ,
    "GET /studies/{study}": Right.READ,
    "POST /studies/{study}/decide": Right.DECIDE,
    "GET /review": Right.DECIDE,
    "GET /review/warm": Right.DECIDE,
    "GET /review/{study}": Right.DECIDE,
    "POST /review/{study}/decide": Right.DECIDE,
    "GET /upload": Right.STORE,
    "POST /upload": Right.STORE,
    "GET /work": Right.READ,
    "GET /work/now": Right.READ,
    "POST /work/jobs/{job}/{action}": Right.DECIDE,
    "POST /work/deliveries/{delivery}/{action}": Right.SEND,
    "GET /series/{series}/pictures/{stack}/{name}": Right.READ,
    "GET /assets/{name:path}": Right.ANYONE,
    "GET /sign-in": Right.ANYONE,
    "POST /sign-in": Right.ANYONE,
    "GET /sign-in/oidc": Right.ANYONE,
    "GET /sign-in/callback": Right.ANYONE,
    "GET /sign-in/end": Right.ANYONE,
    "POST /sign-out": Right.ANYONE,
}


def right_of_route(method: str, path: str) -> Right | None:
    """Return the right that a request needs; None for a route that nobody has thought of.

    Parameters
    ----------
    path
        Of the route, with the names of its parameters.
    """
    method = "GET" if method == "HEAD" else method
    return RIGHTS_OF_ROUTES.get(f"{method} {path}", RIGHTS_OF_ROUTES.get(f"* {path}"))
