"""Decide who may associate with the node (PS3.8 9.3.4, table 9-21)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dicom_node.settings import DimsePeer
from dicom_node.upper_layer.associate import (
    APPLICATION_CONTEXT_NAME,
    PROTOCOL_VERSION,
    AssociationRequest,
    Rejection,
)


@dataclass(frozen=True, slots=True)
class KnownTitle:
    """What the settings say of the peers with one AE title.

    Attributes
    ----------
    networks
        From which they may call; None: from anywhere.
    certificate_names
        Names in lower case; the peer's certificate must have one of them. None: it needs no certificate.
    """

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] | None
    may_store: bool
    certificate_names: frozenset[str] | None = None

    def may_show(self, names: frozenset[str]) -> bool:
        """Return whether a peer with this title has a certificate with these names."""
        return self.certificate_names is None or not self.certificate_names.isdisjoint(names)

    def may_call_from(self, host: str) -> bool:
        """Return whether a peer with this title calls from an address."""
        if self.networks is None:
            return True
        address = ipaddress.ip_address(host.partition("%")[0])  # without the interface of a link-local address
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self.networks)


def known_titles(peers: Sequence[DimsePeer]) -> dict[str, KnownTitle]:
    """Return AE title → what the peers with it may; what one of several may, each of them may."""
    found = {}
    for title in {peer.ae_title for peer in peers}:
        same = [peer for peer in peers if peer.ae_title == title]
        networks = [ipaddress.ip_network(one) for peer in same for one in peer.addresses]
        is_bound = all(peer.addresses for peer in same)
        names = frozenset(name.lower() for peer in same for name in peer.certificate_names)
        found[title] = KnownTitle(
            tuple(networks) if is_bound else None,
            any(peer.may_store for peer in same),
            names if all(peer.certificate_names for peer in same) else None,
        )
    return found


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """Requirements on a request; an empty list of calling AE titles allows all.

    Attributes
    ----------
    titles
        AE titles of peers.
    known_peers_only
        No other title may associate.
    """

    ae_title: str
    require_called_ae_title: bool = True
    allowed_calling_ae_titles: frozenset[str] = frozenset()
    titles: Mapping[str, KnownTitle] = field(default_factory=dict)
    known_peers_only: bool = False

    def may_store(self, calling_ae_title: str) -> bool:
        """Return whether a requestor that was admitted may store."""
        known = self.titles.get(calling_ae_title)
        return known is None or known.may_store


def find_rejection(
    request: AssociationRequest, policy: AdmissionPolicy, host: str, certificate_names: frozenset[str] = frozenset()
) -> Rejection | None:
    """Return why the requestor may not associate, or None if it may.

    Parameters
    ----------
    host
        Address from which it calls.
    certificate_names
        In the certificate that it has shown, in lower case; empty without TLS.
    """
    if not request.protocol_version & PROTOCOL_VERSION:
        return Rejection.PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context_name != APPLICATION_CONTEXT_NAME:
        return Rejection.APPLICATION_CONTEXT_NOT_SUPPORTED
    if policy.require_called_ae_title and request.called_ae_title != policy.ae_title:
        return Rejection.CALLED_AE_TITLE_NOT_RECOGNIZED
    if policy.allowed_calling_ae_titles and request.calling_ae_title not in policy.allowed_calling_ae_titles:
        return Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED
    known = policy.titles.get(request.calling_ae_title)
    if (
        policy.known_peers_only
        if known is None
        else not (known.may_call_from(host) and known.may_show(certificate_names))
    ):
        return Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED
    return None
