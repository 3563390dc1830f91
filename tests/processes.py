"""Programs that tests start beside themselves: Python's, the command line, and several of one that a launcher started."""

import os
import socket
import subprocess
import sys
from pathlib import Path

COMMAND = "import sys; from fluidgrad.app.cli import main; sys.exit(main(sys.argv[1:]))"
ELSEWHERE = Path(__file__).parent  # not the checkout: the package is then the one that tests import


def python(*arguments, cwd=ELSEWHERE, **environment):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, env=os.environ | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def started(arguments, cwd=ELSEWHERE, command=COMMAND, **environment):
    """The command line."""
    return python("-c", command, *arguments, cwd=cwd, **environment)


def ended(process):
    out, err = process.communicate(timeout=500)
    return process.returncode, out, err


def launched(n, start):
    """``start(**environment)`` n times, with the variables that srun sets and JAX reads."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{s.getsockname()[1]}"
    of_all = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": str(n), "JAX_COORDINATOR_ADDRESS": address}
    return [start(**of_all, SLURM_PROCID=str(k), SLURM_LOCALID=str(k)) for k in range(n)]
