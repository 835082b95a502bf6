"""Who may call which method of civil status. Data only."""

from services.mesh.core.methods import Methods, agency, allow

METHODS: Methods = {
    "/npd.civil_status.v1.CivilStatusService/RegisterBirth": allow(agency()),
    "/npd.civil_status.v1.CivilStatusService/RecordMarriage": allow(agency()),
    "/npd.civil_status.v1.CivilStatusService/RegisterDeath": allow(agency()),
    "/npd.civil_status.v1.CivilStatusService/CorrectBirth": allow(agency()),
    "/npd.civil_status.v1.CivilStatusService/AnnulAct": allow(agency()),
    "/npd.civil_status.v1.CivilStatusService/GetCivilStatus": allow(agency()),
}
