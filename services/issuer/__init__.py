"""Certificates of agencies' systems and of operators: applications, approvals, renewals, revocations, inventory."""
