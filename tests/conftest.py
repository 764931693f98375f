"""What every test may rely on."""

from __future__ import annotations

import signal

# A shell that runs the tests in the background ignores SIGINT for them, and so would every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
