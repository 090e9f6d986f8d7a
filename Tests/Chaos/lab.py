"""A cluster of real daemons on one machine, each in a network namespace of its own, and what can be done to it.

A namespace `rawstor-chaos-PID-NAME` is a host with one address; all hosts hang at a bridge in one more namespace, so nothing is seen of it
outside. PID is this process's: what a run that was killed has left behind is found by a PID that is gone, and removed by the next run.
"""
import json
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time

PREFIX = "rawstor-chaos-"
BLOCK = 4096
UNIT_BLOCKS = 16  # 64 KiB: what changed is rounded up to it
PORT = 7710


class Broken(Exception):
    """The run cannot go on, or something that must hold does not."""


def call(*words, check=True, well=(0,), timeout=120, **options):
    """Runs a program to its end; what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, **options)
    if check and done.returncode not in well:
        raise Broken(f"{' '.join(words)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


def wait_until(what, condition, seconds=30.0, every=0.05, tell=lambda: ""):
    """`tell`: what a failure says besides."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Broken(f"after {seconds:.0f} s still not: {what}{tell()}")
        time.sleep(every)


def remove_namespaces(pid):
    """With every process in them."""
    names = [name for name in os.listdir("/run/netns") if name.startswith(f"{PREFIX}{pid}-")] if os.path.isdir("/run/netns") else []
    for name in names:
        for inside in call("ip", "netns", "pids", name, check=False).split():
            try:
                os.kill(int(inside), signal.SIGKILL)
            except ProcessLookupError:
                pass
    for name in names:
        call("ip", "netns", "del", name, check=False)


def remove_all(pid, folder):
    """Whatever the run with this PID has made."""
    remove_namespaces(pid)
    for name in os.listdir(folder):
        if name.startswith(f"{PREFIX}{pid}-"):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def remove_leftovers(folder):
    """Of runs that are gone without having cleaned up."""
    found = os.listdir(folder) + (os.listdir("/run/netns") if os.path.isdir("/run/netns") else [])
    for pid in {name.split("-")[2] for name in found if name.startswith(PREFIX)}:
        if not os.path.exists(f"/proc/{pid}"):
            remove_all(pid, folder)


class Host:
    """A network namespace with one address, at the bridge of the lab."""

    def __init__(self, name, number):
        self.name = name
        self.namespace = f"{PREFIX}{os.getpid()}-{name}"
        self.switch = f"{PREFIX}{os.getpid()}-switch"
        self.address = f"10.77.0.{number}"
        self.port = f"port{number}"
        call("ip", "netns", "add", self.namespace)
        call("ip", "-n", self.switch, "link", "add", self.port, "type", "veth", "peer", "name", "net0", "netns", self.namespace)
        call("ip", "-n", self.switch, "link", "set", self.port, "master", "bridge", "up")
        call("ip", "-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "net0")
        for device in ("lo", "net0"):
            call("ip", "-n", self.namespace, "link", "set", device, "up")

    def words(self, *words):
        return ["ip", "netns", "exec", self.namespace, *words]

    def cut(self, directions=("input", "output"), but=None):
        """Drops packets without a word, in one direction or both, but for those to and from one other host."""
        spared = {"input": f"ip saddr {but.address} accept;", "output": f"ip daddr {but.address} accept;"} if but else {}
        chains = "".join(f"chain {d} {{ type filter hook {d} priority 0; policy drop; {spared.get(d, '')} }}; " for d in directions)
        call(*self.words("nft", f"table inet cut {{ {chains}}}"))

    def slow(self, milliseconds, megabits):
        """As far as this kernel can: a delay if it has netem, a narrow line in any case."""
        device = ["tc", "-n", self.namespace, "qdisc", "replace", "dev", "net0", "root"]
        try:
            call(*device, "netem", "delay", f"{milliseconds}ms", f"{milliseconds // 2}ms", "rate", f"{megabits}mbit")
        except Broken:
            call(*device, "tbf", "rate", f"{megabits}mbit", "burst", "64k", "latency", "400ms")

    def heal(self):
        call(*self.words("nft", "flush", "ruleset"))
        call("tc", "-n", self.namespace, "qdisc", "del", "dev", "net0", "root", check=False)


class Process:
    """A program on a host, which may be started several times."""

    def __init__(self, lab, host, name):
        self.lab, self.host, self.name = lab, host, name
        self.log = os.path.join(lab.folder, f"{name}.log")
        self.child = None

    def spawn(self, *words):
        with open(self.log, "ab") as log:
            self.log_start = log.tell()
            self.child = subprocess.Popen(self.host.words(*words), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          start_new_session=True, env=self.lab.environment)
        self.lab.processes.add(self)

    @property
    def is_running(self):
        return self.child is not None and self.child.poll() is None

    def signal(self, number):
        if not self.is_running:
            raise Broken(f"{self.name} has ended by itself: {self.logged()[-600:]}")
        self.child.send_signal(number)

    def kill(self):
        """As kill -9 does; its port is free when this returns."""
        self.signal(signal.SIGKILL)
        self.child.wait()

    def pause(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def logged(self):
        """Since the last start."""
        with open(self.log, errors="replace") as log:
            log.seek(self.log_start)
            return log.read()

    def wait_for_line(self, *texts, seconds=60):
        """One of these; which of them came."""
        wanted, said = " or ".join(f"'{text}'" for text in texts), []

        def has_said():
            # In this order: what it says with its last breath counts.
            runs, logged = self.is_running, self.logged()
            said[:] = [text for text in texts if text in logged]
            if not said and not runs:
                raise Broken(f"{self.name} ended before it said {wanted}: {logged[-600:]}")
            return said

        wait_until(f"{self.name} says {wanted}", has_said, seconds, tell=lambda: f": {self.logged()[-600:]}")
        return said[0]


class Daemon(Process):
    def start(self):
        self.spawn(*self.command)
        self.wait_for_line("listening", seconds=30)

    def stop(self):
        self.signal(signal.SIGTERM)
        try:
            status = self.child.wait(30)
        except subprocess.TimeoutExpired:
            raise Broken(f"{self.name} has not stopped 30 s after SIGTERM") from None
        if status != 0:
            raise Broken(f"{self.name} ended with {status} when it was asked to stop: {self.logged()[-400:]}")


class MGS(Daemon):
    def __init__(self, lab, host):
        super().__init__(lab, host, "mgs")
        self.address = f"{host.address}:7700"
        self.command = [lab.program("rawstor-mgs"), "serve", "--listen", self.address, "--insecure-network"]


class Etcd(Daemon):
    """One of several servers of an etcd, each at its ports of every day."""

    def __init__(self, lab, host, hosts):
        super().__init__(lab, host, host.name)
        here = f"http://{host.address}"
        self.command = ["etcd", "--name", host.name, "--data-dir", os.path.join(lab.folder, host.name),
                        "--listen-client-urls", f"{here}:2379", "--advertise-client-urls", f"{here}:2379",
                        "--listen-peer-urls", f"{here}:2380", "--initial-advertise-peer-urls", f"{here}:2380",
                        "--initial-cluster", ",".join(f"{one.name}=http://{one.address}:2380" for one in hosts)]

    def start(self):
        """Ready is a server only when there is a majority, so its start does not wait for that."""
        self.spawn(*self.command)


class MDT(Daemon):
    """`catalogue` is a file, or an etcd that several of them share."""

    def __init__(self, lab, host, catalogue, spare_after):
        super().__init__(lab, host, host.name)
        self.command = [lab.program("rawstor-mdt"), "serve", catalogue, "--listen", f"{host.address}:7700", "--insecure-network",
                        "--mgs", lab.mgs.address]
        if spare_after is not None:
            self.command += ["--spare-after", str(spare_after)]


class OST(Daemon):
    def __init__(self, lab, host, store_bytes):
        super().__init__(lab, host, host.name)
        self.store_bytes = store_bytes
        self.store = os.path.join(lab.folder, f"{host.name}.store")
        self.make_store()
        self.command = [lab.program("rawstor-ost"), "serve", self.store, "--listen", f"{host.address}:{PORT}", "--insecure-network",
                        "--mgs", lab.mgs.address, "--domain", host.name, "--memory", "256M"]
        self.url = f"ost://{host.address}:{PORT}"

    def make_store(self):
        call(self.lab.program("rawstor-ost"), "init", self.store, "--size", str(self.store_bytes), "--cluster", self.lab.cluster)

    @property
    def identity(self):
        return json.loads(call(self.lab.program("rawstor-ost"), "info", self.store, "--json"))["store"]

    def copy_store(self, source, target):
        call("cp", "--sparse=always", source, target)

    def flip_bits(self, random, count):
        """In blocks that hold data of a writer. The log is left alone, and so is a block that is overwritten meanwhile."""
        flipped = 0
        with open(self.store, "r+b", buffering=0) as file:
            blocks = os.fstat(file.fileno()).st_size // BLOCK
            for block in random.sample(range(blocks), blocks):
                file.seek(block * BLOCK)
                if file.read(8) != struct.pack("<Q", 0x72616B7773746F72):
                    continue
                place = block * BLOCK + random.randrange(BLOCK)
                file.seek(place)
                byte = file.read(1)[0]
                file.seek(place)
                file.write(bytes([byte ^ 1 << random.randrange(8)]))
                flipped += 1
                if flipped == count:
                    break
            os.fsync(file.fileno())
        return flipped

    def contents(self):
        """Of a store that is not served: {(chunk, member, incarnation): {block: check or "damaged"}}."""
        done = subprocess.run(
            [self.lab.program("rawstor-ost"), "verify", self.store, "--list"], capture_output=True, text=True, timeout=300)
        if done.returncode not in (0, 3):
            raise Broken(f"{self.store} cannot be verified: {done.stderr.strip()}")
        found = {}
        for line in done.stdout.splitlines():
            word = line.split()
            if word[0] == "block" and word[1] == self.lab.volume_id:
                found.setdefault((int(word[3]), int(word[5]), int(word[7])), {})[int(word[9])] = word[10]
        return found


class Writer(Process):
    """writer.c on a client's host; each has a number of its own, higher than those before."""

    def __init__(self, lab, host, *options):
        lab.writers += 1
        super().__init__(lab, host, f"writer{lab.writers}")
        self.number, self.journal = lab.writers, os.path.join(lab.folder, f"writer{lab.writers}.journal")
        self.spawn(lab.writer_program, "run", lab.url, lab.history.path, self.journal, str(self.number), *options)
        self.wait_for_line("works", seconds=120)

    def pause(self):
        super().pause()
        self.paused_at = time.monotonic()

    def resume(self):
        super().resume()
        self.lab.was_held_up(time.monotonic() - self.paused_at)

    def stop(self):
        self.signal(signal.SIGTERM)
        self.wait_for_end()

    def wait_for_end(self, seconds=60, status=0):
        try:
            ended = self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Broken(f"{self.name} hangs: after {seconds} s it has not ended") from None
        if ended != status:
            raise Broken(f"{self.name} ended with {ended}: {self.logged()[-600:]}")

    def changed_units(self, begin, end):
        """Units of 64 KiB of which a write was submitted within this time."""
        units = set()
        with open(self.journal, "rb") as file:
            data = file.read()
        for when, _, block, count, is_acknowledged in struct.iter_unpack("<QQIIQ", data[: len(data) // 32 * 32]):
            if not is_acknowledged and begin <= when <= end:
                units.update(range(block // UNIT_BLOCKS, (block + count - 1) // UNIT_BLOCKS + 1))
        return units

    def copied_bytes(self):
        """What it has copied to members that were away, by its log."""
        return sum(int(line.rsplit("bytes=", 1)[1]) for line in self.logged().splitlines() if line.startswith("log ") and "bytes=" in line)


class History:
    """The file that all writers of a volume share: see writer.c."""

    FIELDS = ("blocks", "acknowledged", "reads", "errors", "no_space", "lost", "stale", "wrong", "stall_ns_max", "operation_ns_max")

    def __init__(self, path, blocks):
        self.path, self.blocks = path, blocks
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", blocks))
            file.truncate(4096 + 16 * blocks)

    def __getattr__(self, field):
        return self.word(8 * self.FIELDS.index(field))

    @property
    def ended(self):
        """Reads and writes, well or not; flushes are not counted."""
        return self.acknowledged + self.reads + self.errors + self.no_space

    def word(self, place, value=None):
        with open(self.path, "r+b") as file:
            file.seek(place)
            if value is not None:
                file.write(struct.pack("<Q", value))
                return value
            return struct.unpack("<Q", file.read(8))[0]

    def acknowledged_place(self, block):
        return 4096 + 8 * block

    def seen_place(self, block):
        return 4096 + 8 * (self.blocks + block)


class Lab:
    """The cluster: a management server, by which it is entered, a metadata server, or several on an etcd of as many servers, OSTs and two
    clients; a volume that is filled; and the writers of it."""

    def __init__(self, programs, folder, random, replicas=2, osts=3, volume_bytes=256 << 20, spare_after=None, servers=1):
        self.programs, self.random, self.replicas = programs, random, replicas
        self.folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=folder)
        self.environment = dict(os.environ, LD_LIBRARY_PATH=os.path.join(programs, "lib"))
        self.writer_program = os.path.join(programs, "writer")
        self.processes = set()
        self.writers = 0
        self.writer = None
        self.all_writers = []
        self.windows = []
        self.recovered_bytes = 0
        self.paused_ms_max = 0
        self.hosts = {}
        switch = f"{PREFIX}{os.getpid()}-switch"
        call("ip", "netns", "add", switch)
        call("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        call("ip", "-n", switch, "link", "set", "bridge", "up")
        metadata_hosts = ["mdt"] + [f"mdt{i + 1}" for i in range(1, servers)]
        etcd_hosts = [f"etcd{i + 1}" for i in range(servers)] if servers > 1 else []
        hosts = ["mgs", "client1", "client2"] + metadata_hosts + etcd_hosts + [f"ost{i + 1}" for i in range(osts)]
        for number, name in enumerate(hosts, 1):
            self.hosts[name] = Host(name, number)
        self.mgs = MGS(self, self.hosts["mgs"])
        self.etcds = [Etcd(self, self.hosts[name], [self.hosts[other] for other in etcd_hosts]) for name in etcd_hosts]
        for etcd in self.etcds:
            etcd.start()
        catalogue = self.make_catalogue()
        self.mdts = [MDT(self, self.hosts[name], catalogue, spare_after) for name in metadata_hosts]
        self.mdt = self.mdts[0]
        self.mgs.start()
        for mdt in self.mdts:
            mdt.start()
        self.cluster_url = f"rawstor://{self.mgs.host.address}"
        self.url = f"{self.cluster_url}/chaos"
        store_bytes = 3 * volume_bytes * replicas // osts + (192 << 20)
        self.osts = [OST(self, self.hosts[f"ost{i + 1}"], store_bytes) for i in range(osts)]
        for ost in self.osts:
            ost.start()
        wait_until("all OSTs are registered", lambda: self.status()["healthy"] and len(self.status()["osts"]) == osts)
        self.rawstor("volume", "create", "--replicas", str(replicas), "--size", str(volume_bytes), self.url)
        self.volume_id = self.volume()["id"]
        self.history = History(os.path.join(self.folder, "history"), volume_bytes // BLOCK)

    def make_catalogue(self):
        """Where it is; the cluster begins with it."""
        if not self.etcds:
            path = os.path.join(self.folder, "mdt.db")
            self.cluster = call(self.program("rawstor-mdt"), "init", path).split()[-1]
            return path
        address = "etcd://" + ",".join(f"{etcd.host.address}:2379" for etcd in self.etcds)
        made = ""

        def is_made():
            nonlocal made
            made = call(*self.hosts["mdt"].words(self.program("rawstor-mdt"), "init", address), check=False)
            return "cluster" in made

        wait_until("the etcd takes a catalogue", is_made, 60, 0.5)
        self.cluster = made.split()[-1]
        return address

    def close(self):
        for process in self.processes:
            if process.is_running:
                process.kill()
        remove_all(os.getpid(), os.path.dirname(self.folder))

    def keep(self, folder):
        """Logs, history and journals, for whoever looks into a failure."""
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(self.folder):
            if name.endswith((".log", ".journal")) or name == "history":
                shutil.copy(os.path.join(self.folder, name), folder)

    def program(self, name):
        return os.path.join(self.programs, name)

    # What an operator asks

    def rawstor(self, *words, well=(0,), timeout=120):
        return call(*self.hosts["client2"].words(self.program("rawstor"), *words), well=well, timeout=timeout)

    def status(self):
        # 8: the cluster is degraded.
        return json.loads(self.rawstor("status", "--json", self.cluster_url, well=(0, 8)))

    def volume(self):
        return json.loads(self.rawstor("volume", "info", "--json", self.url))

    def store_of(self, ost):
        """Which store is served there, as the cluster knows it."""
        return next(known["store"] for known in self.status()["osts"]
                    if known["state"] == "up" and f"{ost.host.address}:{PORT}" in known["addresses"])

    def keeps(self, store):
        """Whether the volume has a member on that store, or one that is moving there or anywhere."""
        volume = self.volume()
        return volume["moves"] or any(ost["store"] == store for ost in volume["osts"])

    def forgets(self, store):
        """Whether the cluster forgets it: not before it has been silent for a minute."""
        try:
            self.rawstor("ost", "rm", self.cluster_url, store)
        except Broken:
            return False
        return True

    def is_healthy(self):
        try:
            return self.status()["healthy"]
        except Broken:
            return False

    # Writers

    def start_writer(self, *options, host="client1"):
        self.writer = Writer(self, self.hosts[host], *options)
        self.all_writers.append(self.writer)
        return self.writer

    def sleep(self, seconds):
        """While the writer works; one that has ended by itself is a failure at once."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check_writer()
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))

    def work(self, count, seconds=60):
        """Until so many more reads and writes of the writer have ended."""
        before = self.history.ended

        def done():
            self.check_writer()
            return self.history.ended - before

        wait_until(f"{count} operations of {self.writer.name} have ended", lambda: done() >= count, seconds,
                   tell=lambda: f", but {done()}: {self.writer.logged()[-600:]}")

    def check_writer(self):
        if self.writer and not self.writer.is_running:
            raise Broken(f"{self.writer.name} has ended: {self.writer.logged()[-600:]}")

    def was_held_up(self, seconds):
        """So long a writer could do nothing, and that is no fault of the cluster."""
        self.paused_ms_max = max(self.paused_ms_max, int(1000 * seconds))

    # Members

    def fault(self, since=None):
        """From now on members may miss writes, or they lack those since then, until `settle`."""
        self.windows.append([since or time.monotonic_ns(), None])

    def check_daemons(self):
        for daemon in [self.mgs] + self.etcds + self.mdts + self.osts:
            daemon.signal(0)

    def settle(self, seconds=90):
        """Waits until every member has everything, by what the volume's own writer does, or `recover` without one."""
        self.check_daemons()
        if not (self.writer and self.writer.is_running):
            healed = json.loads(self.rawstor("volume", "recover", "--json", self.url))
            self.recovered_bytes += healed["copied_bytes"]
        wait_until("the cluster is healthy again", self.is_healthy, seconds, 0.2)
        if self.windows:
            self.windows[-1][1] = time.monotonic_ns()

    def changed_bytes(self):
        """Each fault for itself: what was changed in two of them is copied twice."""
        total = 0
        for begin, end in self.windows:
            units = set()
            for writer in self.all_writers:
                units |= writer.changed_units(begin, end or time.monotonic_ns())
            total += len(units) * UNIT_BLOCKS * BLOCK
        return total

    def resync_bytes(self):
        return self.recovered_bytes + sum(writer.copied_bytes() for writer in self.all_writers)

    def verify(self):
        """A client reads all of it."""
        done = subprocess.run(self.hosts["client2"].words(self.writer_program, "verify", self.url, self.history.path),
                              capture_output=True, text=True, timeout=300, env=self.environment)
        if done.returncode not in (0, 1):
            raise Broken(f"the volume cannot be read: {done.stdout[-600:]}{done.stderr[-200:]}")
        return [line for line in done.stdout.splitlines() if line.split()[0] in ("LOST", "STALE", "WRONG")]

    def spoil(self, block):
        call(*self.hosts["client2"].words(self.writer_program, "spoil", self.url, self.history.path, str(block)), env=self.environment)

    def restart(self):
        for ost in self.osts:
            if not ost.is_running:
                ost.start()

    def unequal_members(self):
        """Stops the cluster, and compares what the disks of all members in sync hold, block by block. A block that its own OST knows to be
        damaged is not served as it is, and is told apart: (unequal, damaged)."""
        volume = self.volume()
        stores = [ost["store"] for ost in volume["osts"]]
        placements = volume["placements"]
        for ost in self.osts:
            if ost.is_running:
                ost.stop()
        contents = {ost.identity: ost.contents() for ost in self.osts}
        unequal, damaged = [], 0
        chunks = -(-volume["size_bytes"] // volume["chunk_bytes"])
        for chunk in range(chunks):
            copies = []
            for number, member in enumerate(placements[chunk % len(placements)]):
                if member["state"] == "in_sync":
                    held = contents[stores[member["ost"]]]
                    copies.append(held.get((chunk, number, member["incarnation"]), {}))
            for block in sorted(set().union(*copies)):
                checks = [copy.get(block) for copy in copies]
                damaged += checks.count("damaged")
                if len(set(checks) - {"damaged"}) > 1:
                    unequal.append(f"chunk {chunk} block {block}: " + ", ".join(str(check) for check in checks))
        return unequal, damaged
