"""Who may follow changes. Which fields he sees is his agreement's."""

from services.mesh.core.methods import agency, allow

METHODS = {
    "/npd.sharing.v1.ChangeService/PullChanges": allow(agency()),
    "/npd.sharing.v1.ChangeService/WatchChanges": allow(agency()),
}
