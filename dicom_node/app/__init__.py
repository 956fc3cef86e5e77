"""Composition root: settings become wired objects and running processes. The one room that knows every room.

Each process has a module of its own (`receive`, `web`, `schedule`, `work`; `serve` runs them all), which imports what
that process needs and no other should carry.
"""

from dicom_node.app.wiring import (
    check_tls,
    commitment_peers,
    current_pipeline_digest,
    data_dir_warnings,
    live_terms,
    model_identities,
    objects_place,
    oidc_provider,
    open_store,
    read_models,
    read_rules,
    store_limits,
    system_user,
    upload_limits,
    utc_now,
    web_gatekeeper,
)

__all__ = [
    "check_tls",
    "commitment_peers",
    "current_pipeline_digest",
    "data_dir_warnings",
    "live_terms",
    "model_identities",
    "objects_place",
    "oidc_provider",
    "open_store",
    "read_models",
    "read_rules",
    "store_limits",
    "system_user",
    "upload_limits",
    "utc_now",
    "web_gatekeeper",
]
