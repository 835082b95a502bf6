"""Civil status: births, marriages, deaths, their correction and annulment. Keeps acts, and never changes one."""
