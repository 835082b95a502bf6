"""Guard: every field marked REQUIRED is there. Formats and lengths are the domain's."""

from google.protobuf.message import Message

from services.mesh.wire.call import Call
from services.mesh.wire.payload import require_fields


def validation(call: Call, request: Message) -> None:
    """Raises FieldRequired with every missing field."""
    require_fields(request)
