"""The demonstration: what the mesh does, told in ten steps on a real database and real certificates.

Everybody calls as in real life: over mutual TLS, with npd-client, from the files that lie in the mesh's directory.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

from google.protobuf.field_mask_pb2 import FieldMask

from npd.common.v1.access_pb2 import AccessMode
from npd.common.v1.evidence_pb2 import OUTCOME_DISCLOSED, OUTCOME_NO_MATCH, Receipt
from npd.common.v1.error_reason_pb2 import ErrorReason
from npd.common.v1.person_pb2 import BLOOD_TYPE_O_POSITIVE, Person
from npd.registry.v1 import directory_pb2
from npd.sharing.v1.contribution_pb2 import ContributionItem, ContributionResult
from npd.sharing.v1.usage_pb2 import UsageRecord
from npd_client import receipts
from npd_client.client import Client
from npd_client.merkle import EvidenceInvalid
from services.local import handshake
from services.local.cast import Cast
from services.local.credentials import read_certificate
from services.local.mesh import LocalMesh
from services.local.sample import SYSTEMS
from services.local.sandbox import Sandbox, a_citizen, stated
from services.local.story import Story, expect, expect_refusal, table, until
from services.local.watching import Watch
