"""Who may call which method of residence. Data only; what a call may register or read is its agreement's."""

from services.mesh.core.methods import Methods, agency, allow

METHODS: Methods = {
    "/npd.residence.v1.ResidenceService/RegisterResidence": allow(agency()),
    "/npd.residence.v1.ResidenceService/CloseResidence": allow(agency()),
    "/npd.residence.v1.ResidenceService/NameHead": allow(agency()),
    "/npd.residence.v1.ResidenceService/GetResidence": allow(agency()),
}
