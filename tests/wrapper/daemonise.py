"""Leaves a daemon behind, as daemons do it: fork, a session of its own, fork again."""

import os
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        time.sleep(61)
    os._exit(0)
os.wait()
