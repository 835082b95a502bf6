"""Who may verify. What he may verify is his agreement's."""

from services.mesh.core.methods import agency, allow

METHODS = {
    "/npd.sharing.v1.VerificationService/VerifyCitizen": allow(agency()),
}
