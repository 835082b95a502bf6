"""Who may call which method of the identity room. What an agency may do there is its agreement's. Data only."""

from services.mesh.core.methods import Methods, agency, allow, room

METHODS: Methods = {
    "/npd.identity.v1.NumberService/ReservePin": allow(room("civil_status")),
    "/npd.identity.v1.NumberService/ConfirmPin": allow(room("civil_status")),
    "/npd.identity.v1.NumberService/ResolvePin": allow(room(), agency()),
    "/npd.identity.v1.NumberService/SucceedPin": allow(agency()),
    "/npd.identity.v1.CardService/RequestCard": allow(agency()),
    "/npd.identity.v1.CardService/IssueCard": allow(agency()),
    "/npd.identity.v1.CardService/CancelCard": allow(agency()),
    "/npd.identity.v1.CardService/CheckCard": allow(agency()),
    "/npd.identity.v1.CardService/GetCards": allow(agency()),
}
