"""Who may contribute. What he may write is his agreement's, or for a room the authority rule's."""

from services.mesh.core.methods import agency, allow, room

METHODS = {
    "/npd.sharing.v1.ContributionService/Contribute": allow(agency(), room("identity", "residence", "civil_status")),
}
