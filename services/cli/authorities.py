"""Commands that roll issuing CAs over: prepared, active, tainted, then retired or revoked."""

import sys
import time
from datetime import timedelta
from typing import Annotated, Any, TypeAlias
from uuid import uuid4

import typer

from npd_client.channel import RotatingChannel
from services.cli.naming import ISSUER, TIMEOUT, ReasonOption, authorities, authority_key_id
from services.cli.options import (
    AddressOption,
    DirectoryOption,
    EndpointsOption,
    JsonOption,
    duration,
    one_room,
    uuid_argument,
)
from services.cli.outcome import print_json

_POLL = 0.2

KeyArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="KEY_ID", help="Key id of the authority, or its first 8 digits or more.")
]


def list_(
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the issuing CAs, also those whose files lie ready: state, unexpired leaves, rooms that have not heard yet.

    Example: npd authority list
    """
    from services.cli import issuer_views, views

    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        found = authorities(channel)
        if as_json:
            print_json({"authorities": [views.json_of(one) for one in found]})
        else:
            issuer_views.show_authorities(found)


def prepare(
    key_id: KeyArgument,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an issuing CA known to all rooms, whose files lie in the issuer's directory. It does not issue yet.

    Example: npd authority prepare 3fa1c0de
    """
    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        _tell(_act(channel, "PrepareAuthority", key_id), as_json=as_json)


def activate(
    key_id: KeyArgument,
    wait: Annotated[
        timedelta | None,
        typer.Option(parser=duration, metavar="TIME", help="Wait so long for rooms that have not heard of it, as 2m."),
    ] = None,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a prepared CA issue from now on. The one that did is tainted, and its leaves are told to renew.

    Example: npd authority activate 3fa1c0de --wait 2m
    """
    import grpc

    from npd_client.errors import refusal_of

    deadline = time.monotonic() + (wait.total_seconds() if wait else 0.0)
    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        whole, said = authority_key_id(channel, key_id), ""
        while True:
            try:
                answer = _act(channel, "ActivateAuthority", whole)
                break
            except grpc.RpcError as error:
                refusal = refusal_of(error)
                if refusal.reason != "AUTHORITY_NOT_ACKNOWLEDGED" or time.monotonic() > deadline:
                    raise
                if sys.stderr.isatty() and refusal.sentence() != said:
                    said = refusal.sentence()
                    typer.echo(f"waiting: {said}", err=True)
            time.sleep(_POLL)
        _tell(answer, as_json=as_json)


def taint(
    key_id: KeyArgument,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a CA out of issuing at once, successor or none; its leaves are told to renew now.

    Example: npd authority taint 3fa1c0de
    """
    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        _tell(_act(channel, "TaintAuthority", key_id), as_json=as_json)


def retire(
    key_id: KeyArgument,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a tainted CA up, all of whose leaves have expired or are revoked.

    Example: npd authority retire 3fa1c0de
    """
    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        _tell(_act(channel, "RetireAuthority", key_id), as_json=as_json)


def revoke(
    key_id: KeyArgument,
    reason: ReasonOption,
    force: Annotated[
        bool, typer.Option("--force", help="In any state and with all its leaves. Needs a second operator.")
    ] = False,
    request_id: Annotated[
        str,
        typer.Option(help="With --force: id of the request (UUID); after the approval the very id that was approved."),
    ] = "",
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a CA for good; without --force only one that is tainted and has no unexpired leaf.

    Example: npd authority revoke 3fa1c0de --reason superseded

    Example: npd authority revoke 3fa1c0de --reason key_compromise --force

    A forced one is refused at first, and says what the second operator does and how to go on.
    """
    import grpc

    from npd.registry.v1 import revocation_pb2
    from npd_client.errors import refusal_of

    if request_id and not force:
        raise typer.BadParameter("only a forced revocation is approved; give --force too", param_hint="--request-id")
    chosen = uuid_argument(request_id) if request_id else str(uuid4())
    wire_reason = revocation_pb2.RevocationReason.Value(f"REVOCATION_REASON_{reason.name}")
    method = "ForceRevokeAuthority" if force else "RevokeAuthority"
    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        try:
            answer = _act(channel, method, key_id, request_id=chosen, reason=wire_reason)
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            if refusal.reason == "APPROVAL_NEEDED" and not as_json:
                approval = refusal.metadata.get("approval", "")
                typer.echo(f"A second operator decides: npd approval show {ISSUER} {approval}", err=True)
                again = f"npd authority revoke {key_id} --reason {reason.value} --force --request-id {chosen}"
                typer.echo(f"Then: {again}", err=True)
            raise
        _tell(answer, as_json=as_json)


def _act(channel: RotatingChannel, method: str, key_id: str, *, request_id: str = "", **fields: object) -> Any:
    """Call a method that changes an authority. Raises grpc.RpcError."""
    from npd.issuer.v1 import authority_pb2, authority_pb2_grpc

    request_type = getattr(authority_pb2, f"{method}Request")
    stub = authority_pb2_grpc.AuthorityServiceStub(channel)
    whole = authority_key_id(channel, key_id)
    return getattr(stub, method)(
        request_type(request_id=request_id or str(uuid4()), key_id=whole, **fields), timeout=TIMEOUT
    )


def _tell(answer: Any, *, as_json: bool) -> None:
    """What became of it, and of the one whose place it took."""
    from services.cli import issuer_views, views

    if as_json:
        print_json(views.json_of(answer))
        return
    typer.echo(issuer_views.authority_sentence(answer.authority))
    fields = answer.DESCRIPTOR.fields_by_name
    if "former" in fields and answer.HasField("former"):
        typer.echo(issuer_views.authority_sentence(answer.former))
    if "revoked_count" in fields:
        typer.echo(f"{answer.revoked_count:,} leaves went with it")
