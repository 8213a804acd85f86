"""A Slurm controller and a node of one's own, on this machine, from Debian's packages slurm-wlm and munge.

    python tests/end_to_end/slurm_cluster.py FOLDER

Nothing outside of the folder is touched, and no rights are needed. When all runs, the line to export is printed; when
stdin is closed (Ctrl-D), all is stopped. The folder's path has to be short: a socket has at most 108 bytes for it.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from getpass import getuser
from pathlib import Path
from time import monotonic, sleep

CPUS = 2
MEMORY = 8000  # MB; like the cores promised to Slurm, whatever the machine has
DAEMONS = ("munged", "slurmctld", "slurmd")
_PATIENCE = 30  # seconds

# proctrack/linuxproc and task/none need no control groups; the intervals are short, because tests wait for them.
# cred_expire is also how long a job waits that was put back into the queue: two minutes by default.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=2,sched_interval=2,sched_min_interval=0
KillWait=5
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=other Nodes={host} MaxTime=INFINITE State=UP
"""


def daemon(name: str) -> str | None:
    """Path of a daemon; sbin is not on everybody's PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Cluster:
    """Starts in a folder, and ends with everything that it runs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.configuration = folder / "slurm.conf"
        self.environment = {**os.environ, "SLURM_CONF": str(self.configuration)}
        self.processes: list[subprocess.Popen] = []

    def __enter__(self) -> "Cluster":
        try:
            self._write_files()
            files = [f"--{name}={self.folder}/munge.{ending}" for name, ending in MUNGE_FILES.items()]
            # --force: a folder that only its owner may enter is good enough for a cluster of one user
            self._start("munged", "--foreground", "--force", *files)
            self._wait_for((self.folder / "munge.socket").exists)
            self._start("slurmctld", "-D", "-c")
            self._start("slurmd", "-D")
            self._wait_for(lambda: self.ask("sinfo", "-h", "-p", "main", "-o", "%T") == "idle")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        """Jobs first: they would outlive the daemons."""
        self.ask("scancel", f"--user={getuser()}")
        self._wait_for(lambda: self.ask("squeue", "-h") == "")
        self._stop()

    def _write_files(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self.configuration.write_text(
            CONFIGURATION.format(
                folder=self.folder,
                host=socket.gethostname().split(".")[0],
                user=getuser(),
                controller_port=free_port(),
                node_port=free_port(),
                cpus=CPUS,
                memory=MEMORY,
            )
        )
        # GPUs that can be asked for and are none: the trainings run on the CPU
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/zero\nName=gpu File=/dev/null\n")

    def _start(self, name: str, *arguments: str) -> None:
        with open(self.folder / f"{name}.out", "wb") as output:
            command = [daemon(name), *arguments]
            process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.processes.append(process)

    def ask(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout.strip()

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = monotonic() + _PATIENCE
        while not condition():
            dead = [process.args[0] for process in self.processes if process.poll() is not None]
            if dead or monotonic() > deadline:
                logs = "".join(f"\n{log}:\n{log.read_text()[-2000:]}" for log in sorted(self.folder.glob("*.log")))
                raise SystemExit(f"{', '.join(dead) or 'the node'} does not do what it should:{logs}")
            sleep(0.2)

    def _stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


MUNGE_FILES = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    missing = [name for name in DAEMONS if daemon(name) is None]
    if missing:
        raise SystemExit(f"{', '.join(missing)} not found: apt install slurm-wlm munge")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that all is stopped
    with Cluster(Path(sys.argv[1]).resolve()) as cluster:
        print(f"export SLURM_CONF={cluster.configuration}", flush=True)
        sys.stdin.read()
