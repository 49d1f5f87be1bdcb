"""``python -m edge_asr.mic``: captions from a microphone. What it does is in ``commands.mic``."""

import sys

from edge_asr.commands.mic import main

if __name__ == "__main__":
    sys.exit(main())
