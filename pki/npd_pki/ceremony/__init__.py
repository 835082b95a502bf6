"""Key ceremonies: one reviewed TOML file says what is signed, a rehearsal shows it, the run signs just that and reports.

    document   reads and checks the file          fields     one table of TOML, strictly
    keys       opens and makes the keys           plan       what would be signed, checked and linted
    describe   a certificate or list in lines     run        signs, and writes one directory, whole or not at all
    transcript what an auditor compares

Holds no command line (`npd_pki.cli` does) and decides about nobody: what the file says was reviewed by people.
Source: DESIGN.md part 5; the `ceremony` program of Boulder, the CA software of Let's Encrypt.
"""
