"""Who may show a citizen the use of his record: a portal with an agreement in mode USAGE."""

from services.mesh.core.methods import agency, allow

METHODS = {
    "/npd.sharing.v1.UsageService/FindUsage": allow(agency()),
}
