"""The systems that bench/run measures: how each is started, renewed between rounds, driven by fio, and stopped.

Servers run on core 0. What a system owns, but for qemu-nbd's socket, lies below the bench's folder and ends with it; nothing that the
machine has set up is used or touched. A system is made without side effects, so that whatever `launch` leaves half done can be stopped.
What goes wrong is a Failure with a sentence.
"""
import json, os, shutil, signal, socket, subprocess, tempfile, time, urllib.request, uuid

here = os.path.dirname(os.path.abspath(__file__))

class Failure(Exception): pass

def run(*command, timeout=120, **options):
    try: return subprocess.run(command, check=True, text=True, capture_output=True, timeout=timeout, **options).stdout
    except FileNotFoundError: raise Failure(f"the program {command[0]} is not there; ./dev bench installs or builds what is needed")
    except subprocess.TimeoutExpired: raise Failure(f"'{' '.join(command)}' did not end within {timeout} s")
    except subprocess.CalledProcessError as error:
        last = "\n".join((error.stderr or error.stdout).splitlines()[-5:])
        raise Failure(f"'{' '.join(command)}' failed with exit code {error.returncode}: {last}")

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

def thread_time_us(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as f: total += int(f.read().split()[0])
        except FileNotFoundError: pass  # a thread that has ended meanwhile
    return total / 1e3

def written(pid):
    with open(f"/proc/{pid}/io") as f: return int(dict(line.split(": ") for line in f.read().splitlines())["write_bytes"])

def ended(process):
    with open(process.log) as f: last = "".join(f.readlines()[-5:]).strip()
    return Failure(f"{process.title} ended by itself: {last or 'it said nothing'}")

class System:
    name = "?"
    size = 0  # of the volume, in bytes
    space = 0  # that its files may take, in bytes
    may_be_missing = False
    environment = {}  # of fio
    has_client_threads = False  # threads that fio knows nothing of
    processes = ()
    def launch(self): pass
    def engine(self): raise NotImplementedError
    def renew(self): pass
    def flushes(self): return None
    def counters(self):
        """Processor time in microseconds, bytes written to the disk, and flushes of it, of all processes of the system."""
        for process in self.processes:
            if process.poll() is not None: raise ended(process)
        pids = [process.pid for process in self.processes]
        return sum(map(thread_time_us, pids)), sum(map(written, pids)), self.flushes()
    def stop(self): pass

class Raw(System):
    """The file itself, through io_uring with O_DIRECT."""
    name = "raw"
    def __init__(self, folder, size): self.file, self.size, self.space = f"{folder}/raw.disk", size, size
    def launch(self): run("fallocate", "-l", str(self.size), self.file)
    def engine(self): return ["--ioengine=io_uring", "--direct=1", f"--filename={self.file}"]

class Server(System):
    def __init__(self, folder, size):
        self.folder, self.size, self.processes = f"{folder}/{self.name}", size, []
    def start(self, name, *command, **options):
        path = f"{self.folder}/{name}.log"
        with open(path, "w") as log:
            process = subprocess.Popen(["taskset", "-c", "0", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)
        process.title, process.log = f"{name} of {self.name}", path
        self.processes.append(process)
    def wait_for_port(self, port): self.wait_for(socket.AF_INET, ("127.0.0.1", port))
    def wait_for(self, family, address):
        """That of the process which was started last."""
        process = self.processes[-1]
        for _ in range(200):
            if process.poll() is not None: raise ended(process)
            with socket.socket(family) as s:
                s.settimeout(0.2)
                if s.connect_ex(address) == 0: return
            time.sleep(0.05)
        raise Failure(f"{process.title} does not listen on {address} after 10 s")
    def stop(self):
        for process in self.processes: process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try: process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []

class QemuNBD(Server):
    """qemu-nbd on a file of its own, io_uring, no cache, and a Unix socket."""
    name = "qemu-nbd"
    def __init__(self, folder, size):
        super().__init__(folder, size)
        self.space = size
        self.sockets = None
    def launch(self):
        os.mkdir(self.folder)
        # Not below the folder: the path of a socket must be short, and qemu-nbd takes no relative one.
        self.sockets = tempfile.TemporaryDirectory(prefix="bench-")
        self.socket = f"{self.sockets.name}/socket"
        run("fallocate", "-l", str(self.size), f"{self.folder}/disk")
        self.start("qemu-nbd", "qemu-nbd", "-f", "raw", "--cache=none", "--aio=io_uring", "-t", "-e", "4", "-k", self.socket,
            f"{self.folder}/disk")
        self.wait_for(socket.AF_UNIX, self.socket)
    def engine(self): return ["--ioengine=nbd", f"--uri=nbd+unix:///?socket={self.socket}"]
    def stop(self):
        super().stop()
        if self.sockets: self.sockets.cleanup()

class Rawstor(Server):
    """What one OST and a cluster of them share."""
    def __init__(self, folder, size, binaries, engine):
        super().__init__(folder, size)
        self.binaries, self.external, self.metrics = binaries, engine, []
    def start_ost(self, name, bytes_, cluster=(), serve=()):
        port, metrics, store = free_port(), free_port(), f"{self.folder}/{name}.store"
        run(f"{self.binaries}/rawstor-ost", "init", store, "--size", str(bytes_ - bytes_ % 4096), *cluster)
        write_whole(store)
        self.start(name, f"{self.binaries}/rawstor-ost", "serve", store, "--listen", f"127.0.0.1:{port}",
            "--metrics", f"127.0.0.1:{metrics}", *serve)
        self.wait_for_port(port)
        self.metrics.append(metrics)
        return port
    def rawstor(self, *arguments): return run(f"{self.binaries}/rawstor", *arguments)
    def flushes(self):
        total = 0
        for port in self.metrics:
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
            total += sum(float(l.split()[-1]) for l in text.splitlines() if l.startswith("rawstor_ost_disk_flushes_total"))
        return total

def write_whole(path):
    """Keeps what is in the file. One that was only allocated has its file system at work on each first write, as the raw file has not."""
    with open(path, "r+b", buffering=0) as file:
        for offset in range(0, os.fstat(file.fileno()).st_size, 4 << 20):
            os.pwrite(file.fileno(), os.pread(file.fileno(), 4 << 20, offset), offset)
        os.fsync(file.fileno())

def store_bytes(data): return data + (data >> 2) + (256 << 20)

class OST(Rawstor):
    """One rawstor-ost on a file of its own, through the Unix socket that it tells clients of its machine."""
    name, serve = "ost", ()
    def __init__(self, folder, size, binaries, engine):
        super().__init__(folder, size, binaries, engine)
        self.space = store_bytes(size)
    def launch(self):
        os.mkdir(self.folder)
        self.url = f"ost://127.0.0.1:{self.start_ost('ost', self.space, serve=self.serve)}/bench"
        self.rawstor("volume", "create", "--size", str(self.size), self.url)
    def renew(self):
        self.rawstor("volume", "rm", "--yes", self.url)
        self.rawstor("volume", "create", "--size", str(self.size), self.url)
    def engine(self): return [f"--ioengine=external:{self.external}", f"--url={self.url}"]

class OSTOverTCP(OST):
    """The same over TCP, as from another machine."""
    name, serve = "ost-tcp", ("--tcp-only",)

class Cluster(Rawstor):
    """A metadata server and three OSTs, each a host of its own. `copies` is how often the bytes of a volume lie in it, all volumes
    together."""
    name, osts_max = "cluster", 3
    def __init__(self, folder, size, binaries, engine, copies):
        super().__init__(folder, size, binaries, engine)
        self.bytes = store_bytes(size * copies // self.osts_max)
    def launch(self):
        """Does nothing when it runs: it belongs to several systems."""
        if self.processes: return
        os.mkdir(self.folder)
        catalogue, port = f"{self.folder}/mdt.db", free_port()
        cluster = run(f"{self.binaries}/rawstor-mdt", "init", catalogue).split()[-1]
        self.start("mdt", f"{self.binaries}/rawstor-mdt", "serve", catalogue, "--listen", f"127.0.0.1:{port}")
        self.wait_for_port(port)
        self.url = f"rawstor://127.0.0.1:{port}"
        for number in range(self.osts_max):
            self.start_ost(f"ost{number}", self.bytes, ("--cluster", cluster),
                ("--mdt", f"127.0.0.1:{port}", "--domain", f"host{number}"))
        for _ in range(300):
            osts = json.loads(self.rawstor("ost", "ls", "--json", self.url))["osts"]
            if sum(ost["state"] != "away" for ost in osts) == self.osts_max: return
            time.sleep(0.1)
        raise Failure(f"of {self.osts_max} OSTs {len(osts)} have registered at the metadata server after 30 s")

class Replicated(System):
    """A volume with so many replicas in the cluster."""
    def __init__(self, cluster, replicas):
        self.cluster, self.name, self.replicas, self.size = cluster, f"r{replicas}", str(replicas), cluster.size
        self.space = store_bytes(cluster.size * replicas)
    @property
    def processes(self): return self.cluster.processes
    def url(self): return f"{self.cluster.url}/{self.name}"
    def create(self):
        self.cluster.rawstor("volume", "create", "--replicas", self.replicas, "--size", str(self.size), self.url())
    def launch(self):
        self.cluster.launch()
        self.create()
    def renew(self):
        self.cluster.rawstor("volume", "rm", "--yes", self.url())
        self.create()
    def engine(self): return [f"--ioengine=external:{self.cluster.external}", f"--url={self.url()}"]
    def flushes(self): return self.cluster.flushes()
    def stop(self): self.cluster.stop()

class Ceph(Server):
    """RBD with two replicas: a monitor and three OSDs (BlueStore on files), in a folder of their own and without a manager, which data does
    not need. Authentication is off, as in rawstor; the image has no cache in the client, like qemu-nbd's; and the OSDs are told that the
    disk is an SSD, since a virtual one does not say so."""
    name, may_be_missing, has_client_threads, osds_max = "ceph-r2", True, True, 3
    programs = ("ceph-mon", "monmaptool", "ceph-osd", "ceph", "rbd")
    start_seconds_max = 120
    def __init__(self, folder, size):
        super().__init__(folder, size)
        # Two replicas, a quarter more, and what the OSDs keep for themselves.
        self.block = (size * 2 // self.osds_max) * 5 // 4 + (2 << 30)
        self.space = self.block * self.osds_max
        self.environment = {"CEPH_CONF": f"{self.folder}/ceph.conf", "CEPH_ARGS": ""}
    def command(self, *arguments, timeout=30): return run(*arguments, timeout=timeout, env={**os.environ, **self.environment})
    def configure(self, cluster, port):
        with open(self.environment["CEPH_CONF"], "w") as f: f.write(f"""[global]
fsid = {cluster}
mon host = [v2:127.0.0.1:{port}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
run dir = {self.folder}
crash dir = {self.folder}
keyring = {self.folder}/keyring
log file = {self.folder}/$name.log
mon data avail warn = 2
mon data avail crit = 1
osd pool default size = 2
osd pool default min size = 1
osd crush chooseleaf type = 0
osd memory target = {1 << 30}
osd op num shards = 8
osd op num threads per shard = 2
bluestore block size = {self.block}
bluestore debug enforce settings = ssd
[client]
rbd cache = false
""")
    def launch(self):
        for program in self.programs:
            if not shutil.which(program):
                raise Failure(f"{program} is not installed; ./dev bench --ceph installs Ceph from the distribution")
        if "rbd" not in run("fio", "--enghelp").split(): raise Failure("this fio has no rbd engine; Debian's has one")
        os.mkdir(self.folder)
        cluster, port = str(uuid.uuid4()), free_port()
        self.configure(cluster, port)
        self.command("monmaptool", "--create", "--fsid", cluster, "--addv", "a", f"[v2:127.0.0.1:{port}]", f"{self.folder}/monmap")
        os.mkdir(f"{self.folder}/mon")
        self.command("ceph-mon", "--mkfs", "-i", "a", "--mon-data", f"{self.folder}/mon", "--monmap", f"{self.folder}/monmap")
        self.start_daemon("mon", "ceph-mon", "-f", "-i", "a", "--mon-data", f"{self.folder}/mon")
        self.wait_for_port(port)
        for number in range(self.osds_max): self.start_osd(str(uuid.uuid4()))
        until = time.monotonic() + self.start_seconds_max
        while self.osds_up() < self.osds_max:
            if time.monotonic() > until:
                raise Failure(f"{self.osds_up()} of {self.osds_max} OSDs are up {self.start_seconds_max} s after they were started")
            for process in self.processes:
                if process.poll() is not None: raise ended(process)
            time.sleep(0.2)
        self.command("ceph", "osd", "pool", "create", "bench", "128")
        self.create()
    def start_daemon(self, name, *command): self.start(name, *command, env={**os.environ, **self.environment})
    def start_osd(self, identity):
        number = self.command("ceph", "osd", "new", identity).strip()
        data = f"{self.folder}/osd{number}"
        os.mkdir(data)
        # Says which kind of store mkfs is to make.
        with open(f"{data}/type", "w") as f: f.write("bluestore\n")
        self.command("ceph-osd", "--mkfs", "-i", number, "--osd-uuid", identity, "--osd-data", data, timeout=self.start_seconds_max)
        self.start_daemon(f"osd{number}", "ceph-osd", "-f", "-i", number, "--osd-data", data)
    def osds_up(self): return json.loads(self.command("ceph", "osd", "stat", "--format", "json"))["num_up_osds"]
    def create(self):
        # Waits until the pool takes requests.
        self.command("rbd", "create", "--size", f"{self.size >> 20}M", "bench/bench", timeout=self.start_seconds_max)
    def renew(self):
        self.command("rbd", "rm", "--no-progress", "bench/bench", timeout=600)
        self.create()
    def engine(self): return ["--ioengine=rbd", "--clientname=admin", "--pool=bench", "--rbdname=bench"]
