"""`train.pretrain` in which a process that trains alone waits after twenty steps until it is stopped: for the other."""

import sys
import time

from train.callbacks.graceful_stop import GracefulStop
from train.pretrain import main


original = GracefulStop.on_step_end
steps = 0


def on_step_end(self, args, state, control, **kwargs):
    global steps
    steps += 1
    while args.world_size == 1 and steps >= 20 and not self._received:
        time.sleep(0.02)
    return original(self, args, state, control, **kwargs)


if __name__ == "__main__":
    GracefulStop.on_step_end = on_step_end
    sys.exit(main(sys.argv[1:]))
