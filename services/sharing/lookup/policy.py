"""Who may look up. What he may see is his agreement's."""

from services.mesh.core.methods import agency, allow

METHODS = {
    "/npd.sharing.v1.LookupService/GetCitizen": allow(agency()),
}
