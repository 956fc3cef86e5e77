"""What an association needs to know of query and retrieve: what is negotiated, and which operations there are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from dicom_node.dimse.contexts import AcceptedContext
from dicom_node.dimse.exchange import Exchange
from dicom_node.dimse.messages import BeginOperation
from dicom_node.dimse.query.find_service import FindService
from dicom_node.dimse.query.models import QUERY_MODELS, answer_extension, is_relational
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.store import Store
from dicom_node.upper_layer.associate import AssociationRequest, Extension
from dicom_node.upper_layer.command_set import CommandField


def may_get(contexts: Iterable[AcceptedContext]) -> bool:
    """Whether one of the accepted contexts is for C-GET."""
    models = (QUERY_MODELS.get(context.abstract_syntax) for context in contexts)
    return any(model is not None and model.operation is CommandField.C_GET_RQ for model in models)


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
    granted = answer_extensions(request, contexts.values())
    relational = frozenset(each.sop_class_uid for each in granted if is_relational(each))
    find = FindService(store, policy, exchange, relational=relational, fields=fields)
    return {CommandField.C_FIND_RQ: find.begin}
