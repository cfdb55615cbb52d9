"""Work in processes that are forked from this one, which has loaded all there is to load: seconds of each start."""

import os
import signal
import sys
import tempfile
import traceback


def forked(*works):
    """Do them at once, each in a process of its own; for each its exit code and all that it said."""
    started = [_start(work) for work in works]
    try:
        return [_ended(*one) for one in started]
    finally:
        for child, said in started:  # those that nobody waited for, if something was raised
            if not said.closed:
                os.kill(child, signal.SIGKILL)
                _ended(child, said)


def _start(work):
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed when it is read
    if child := os.fork():
        return child, said
    code = 1
    try:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        sys.stdout = sys.stderr = said
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        said.flush()
        os._exit(code)


def _ended(child, said):
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with said:
        said.seek(0)
        return code, said.read()
