"""`python -m npd_pki` is the command `npd-pki`."""

import sys

from npd_pki.cli import main

if __name__ == "__main__":
    sys.exit(main())
