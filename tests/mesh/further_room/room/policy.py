"""Who may put up notices."""

from services.mesh.core.methods import agency, allow

METHODS = {"/npd.notice.v1.NoticeService/PutUpNotice": allow(agency())}
