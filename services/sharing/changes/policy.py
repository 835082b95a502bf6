"""Who may follow changes. Which fields an agency sees is its agreement's, which a room sees is the catalogue's."""

from services.mesh.core.methods import agency, allow, room

METHODS = {
    "/npd.sharing.v1.ChangeService/PullChanges": allow(agency(), room("identity", "residence", "civil_status")),
    "/npd.sharing.v1.ChangeService/WatchChanges": allow(agency(), room("identity", "residence", "civil_status")),
    "/npd.sharing.v1.ChangeService/Acknowledge": allow(agency(), room("identity", "residence", "civil_status")),
}
