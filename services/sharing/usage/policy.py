"""Who may show a citizen the use of his record: a portal with an agreement in mode USAGE; and who adds to it."""

from services.mesh.core.methods import agency, allow, room

METHODS = {
    "/npd.sharing.v1.UsageService/FindUsage": allow(agency()),
    "/npd.sharing.v1.UsageService/RecordUses": allow(room("identity", "residence", "civil_status")),
}
