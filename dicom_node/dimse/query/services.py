"""What an association needs to know of query and retrieve: what is negotiated, and which operations there are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from dicom_node.dimse.contexts import AcceptedContext
from dicom_node.dimse.exchange import Exchange
from dicom_node.dimse.messages import BeginOperation
from dicom_node.dimse.query.find_service import FindService
from dicom_node.dimse.query.get_service import GetService
from dicom_node.dimse.query.models import QUERY_MODELS, agreed_of, answer_extension
from dicom_node.dimse.query.move_service import MoveService
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.dimse.query.sub_operations import SubOperations
from dicom_node.store import Store
from dicom_node.upper_layer.associate import AssociationRequest, Extension
from dicom_node.upper_layer.command_set import CommandField
from dicom_node.upper_layer.sop_classes import is_storable


def wanted_classes(request: AssociationRequest, permitted: Collection[str] | None) -> frozenset[str]:
    """Return the storage SOP classes of which the requestor wants to get instances by C-GET, as their SCP."""
    proposed = {context.abstract_syntax for context in request.contexts} & set(permitted or ())
    if not any(QUERY_MODELS[uid].operation is CommandField.C_GET_RQ for uid in proposed):
        return frozenset()
    uids = (roles.sop_class_uid for roles in request.roles if roles.is_scp)
    return frozenset(uid for uid in uids if is_storable(uid, accept_unknown=True))


def answer_extensions(request: AssociationRequest, contexts: Iterable[AcceptedContext]) -> tuple[Extension, ...]:
    """Answer what a requestor proposes for SOP classes of query and retrieve that were accepted (PS3.4 C.5)."""
    accepted = {context.abstract_syntax for context in contexts} & QUERY_MODELS.keys()
    return tuple(answer_extension(each) for each in request.extensions if each.sop_class_uid in accepted)


def rejected_queries(request: AssociationRequest, permitted: Collection[str]) -> list[str]:
    """Return the SOP classes of query and retrieve that were proposed and are not permitted."""
    proposed = {context.abstract_syntax for context in request.contexts}
    return sorted((proposed & QUERY_MODELS.keys()) - set(permitted))


def query_operations(
    store: Store,
    policy: QueryRetrieve,
    exchange: Exchange,
    request: AssociationRequest,
    contexts: Mapping[int, AcceptedContext],
    *,
    fields: Mapping[str, object],
) -> dict[int, BeginOperation]:
    """Return command field → function that begins the operation."""
    agreed = agreed_of(answer_extensions(request, contexts.values()))
    wanted = wanted_classes(request, policy.permitted(request.calling_ae_title))
    sender = SubOperations(
        store, policy, exchange, [each for each in contexts.values() if each.abstract_syntax in wanted]
    )
    find = FindService(store, policy, exchange, agreed=agreed, fields=fields)
    get = GetService(store, policy, exchange, agreed=agreed, fields=fields, sender=sender)
    move = MoveService(store, policy, exchange, agreed=agreed, fields=fields)
    return {
        CommandField.C_FIND_RQ: find.begin,
        CommandField.C_GET_RQ: get.begin,
        CommandField.C_MOVE_RQ: move.begin,
    }
