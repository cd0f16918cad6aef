"""``python -m benchmarks``: what the provider costs beside the official SDK, measured in one run."""

from __future__ import annotations

import sys

from benchmarks import imports, polling, searching, transferring, waiting


def main() -> int:
    """
    Run all benchmarks.

    :return: Exit code: 0, or 1 if one of them says that the provider costs more than it may.
    """
    failed = imports.main()
    print()
    failed = polling.main() or failed
    print()
    failed = waiting.main() or failed
    print()
    failed = transferring.main() or failed
    print()
    return searching.main() or failed


if __name__ == "__main__":
    sys.exit(main())
