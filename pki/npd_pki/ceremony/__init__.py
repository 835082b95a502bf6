"""Key ceremonies: one reviewed TOML file says what is signed, a rehearsal shows it, the run signs that and reports.

    document   what the file says       reading    reads and checks it (`fields`: one table of it)
    inputs     the files that it reads  keys       opens and makes keys (`stand_in`: takes their place)
    signing    builds, lints and signs  products   what that makes: lines, files, proofs
    run        rehearses, signs, and writes one directory, whole or not at all
    transcript what an auditor compares

Holds no command line (`npd_pki.cli` does) and decides about nobody: what the file says was reviewed by people.
Source: DESIGN.md part 5; the `ceremony` program of Boulder, the CA software of Let's Encrypt.
"""
