"""How every entry point ends: a user's mistake is one line on standard error and exit status 2, never a traceback.

SIGNSTREAM_DEBUG=1 shows the traceback all the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def run(main: Callable[[], int | None]) -> None:
    try:
        code = main()
        sys.stdout.flush()
    except (ValueError, OSError) as error:
        if os.environ.get("SIGNSTREAM_DEBUG") or isinstance(
            error, UnicodeError
        ):  # what cannot be printed is our mistake
            raise
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left (`| head`): not our error
            sys.exit(0)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)
    sys.exit(code)
