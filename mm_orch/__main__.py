"""Makes ``python -m mm_orch`` the same program as ``muai``."""

from __future__ import annotations

import sys

from mm_orch.main import main

if __name__ == "__main__":
    sys.exit(main())
