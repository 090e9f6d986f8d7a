#!/usr/bin/env python3
"""Faults on a cluster of real daemons while a writer checks every read, and a row for each scenario: see `.dev.d/chaos.sh`.

A scenario is what happens in one of its rounds. Around it: the volume is filled, a writer works all the time, before each round some time
passes by chance, and after it the members that were away must be up to date within a time. In the end a client reads the volume, and the
disks of the members are compared block by block.
"""
import argparse
import contextlib
import json
import os
import random
import signal
import sys
import time

from lab import BLOCK, Broken, Lab, remove_all, remove_leftovers, wait_until
from selftest import self_test

NOISE = 500  # ms; what a machine with other work to do costs an operation by itself


class Scenario:
    def __init__(self, round_, stall_ms, seconds=10, writer=("--flush", "50"), fills=1.0, no_space=False, spare_after=None, servers=1):
        self.round, self.seconds, self.spare_after, self.servers = round_, seconds, spare_after, servers
        self.stall_ms, self.writer, self.fills, self.no_space = stall_ms, list(writer), fills, no_space
        self.name = round_.__name__.replace("_", "-")


# ---- Rounds ----


def kill_ost(lab, seconds, number):
    ost = lab.random.choice(lab.osts)
    ost.kill()
    lab.sleep([seconds, 0, 0.3][number % 3])
    ost.start()


def pause_ost(lab, seconds, number):
    ost = lab.random.choice(lab.osts)
    ost.pause()
    lab.sleep(seconds)
    ost.resume()


def cut_ost(lab, seconds, number):
    host = lab.random.choice(lab.osts).host
    host.cut([("input", "output"), ("input",), ("output",)][number % 3])
    lab.sleep(seconds)
    host.heal()


def slow_ost(lab, seconds, number):
    host = lab.random.choice(lab.osts).host
    host.slow(milliseconds=20, megabits=40)
    lab.sleep(seconds)
    host.heal()


def restart_all(lab, seconds, number):
    """In every second round the writer too."""
    victims = [lab.mgs, lab.mdt] + lab.osts + ([lab.writer] if number % 2 else [])
    for victim in victims:
        victim.signal(signal.SIGKILL)
    for victim in victims:
        victim.child.wait()
    for daemon in [lab.mgs, lab.mdt] + lab.osts:
        daemon.start()
    if number % 2:
        lab.start_writer(*lab.writer_options)


def kill_client(lab, seconds, number):
    lab.writer.kill()
    lab.start_writer(*lab.writer_options, host=f"client{1 + lab.writers % 2}")
    lab.sleep(seconds / 2)


def pause_client(lab, seconds, number):
    """Everything that it waits for is overdue when it goes on."""
    before = lab.volume()["map"]
    lab.writer.pause()
    time.sleep(seconds)
    lab.writer.resume()
    # By then every OST has answered what was sent to it after the pause, so nobody is overdue any more who was during it.
    lab.work(2000)
    lab.must(lab.volume()["map"] == before, "the writer that was paused has changed the states of members")


def two_writers(lab, seconds, number):
    """The first is paused, and when it goes on the second has the volume, by force or because the first was silent."""
    first = lab.writer
    first.pause()
    force = ["--force"] if lab.random.randrange(2) else []
    lab.start_writer(*lab.writer_options, *force, host=f"client{1 + lab.writers % 2}")
    lab.sleep(lab.random.uniform(0, seconds))
    first.resume()
    first.wait_for_end(status=3)
    lab.work(200)


def split_client(lab, seconds, number):
    """One that only reads is alone with an OST, and another writer has the volume with all the others."""
    lab.writer.stop()
    reader = lab.start_writer(*lab.writer_options, "--writes", "0")
    lab.work(200)
    island = (reader.host, lab.random.choice(lab.osts).host)
    began = time.monotonic()
    for host, other in (island, island[::-1]):
        host.cut(but=other)
    force = ["--force"] if lab.random.randrange(2) else []
    lab.start_writer(*lab.writer_options, *force, host="client2")
    lab.sleep(seconds)
    for host in island:
        host.heal()
    reader.wait_for_end(status=3)
    lab.was_held_up(time.monotonic() - began)


def kill_mdt(lab, seconds, number):
    lab.mdt.kill()
    lab.sleep(seconds)
    lab.mdt.start()


def kill_mgs(lab, seconds, number):
    """In every second round the metadata server is killed meanwhile: the writer and the OSTs find it again although nobody lists it."""
    lab.mgs.kill()
    lab.sleep(seconds / 2)
    if number % 2:
        lab.mdt.kill()
        lab.mdt.start()
    lab.sleep(seconds / 2)
    lab.mgs.start()


def kill_etcd(lab, seconds, number):
    """One of three, and then another one. Nobody notices it who needs no change of the map; in every second round somebody does, while one
    is away: an OST is killed. Without a majority it would be waited for."""
    first, second = lab.random.sample(lab.etcds, 2)
    slowest = lab.history.operation_ns_max
    first.kill()
    lab.sleep(seconds / 4)
    if number % 2:
        kill_ost(lab, seconds / 4, 0)
        wait_until("the cluster is healthy with one of three away", lab.is_healthy, 60, 0.2)
    second.kill()
    lab.sleep(seconds / 2)
    for etcd in (first, second):
        etcd.start()
    if number == 0:
        longest = lab.history.operation_ns_max
        lab.must(longest <= max(slowest, NOISE * 1_000_000), "without a change of the map an operation waited for etcd")


def cut_machine(lab, seconds, number):
    """What one of three machines of a small cluster has: an OST, a metadata server, and a server of its etcd."""
    hosts = [daemons[number % 3].host for daemons in (lab.osts, lab.mdts, lab.etcds)]
    for host in hosts:
        host.cut()
    lab.sleep(seconds)
    for host in hosts:
        host.heal()


def full_ost(lab, seconds, number):
    """Another volume takes all space of an OST. Writes of blocks that have none yet are refused; nobody is blamed for it."""
    lab.writer.stop()
    before = lab.volume()["map"]
    refused = lab.history.no_space
    ost = lab.random.choice(lab.osts)
    lab.fill_up(ost)
    lab.start_writer(*lab.writer_options, "--blocks", str(lab.history.blocks))
    lab.sleep(seconds)
    lab.must(lab.history.no_space > refused, f"{ost.name} is full, and no write was refused")
    if number % 2:
        # What was refused is in doubt then, and there is no more room for it than before.
        lab.writer.kill()
        lab.start_writer(*lab.writer_options, "--blocks", str(lab.history.blocks), host="client2")
    lab.empty_again(ost)
    lab.work(200)
    lab.must(lab.volume()["map"] == before, "an OST was full, and the states of members have changed")


def rot(lab, seconds, number):
    """Always on the same disk: a scrub, which would find it before the second disk rots, is not there yet."""
    ost = lab.osts[0]
    if number % 2:
        ost.flip_bits(lab.random, 20)
    else:
        ost.kill()
        ost.flip_bits(lab.random, 20)
        ost.start()
    lab.sleep(seconds)


def lost_disk(lab, seconds, number):
    """An OST comes back with an empty disk: as a new one, which the writer fills while it goes on. Then the old one is forgotten."""
    # Whatever was ever written may have been there.
    lab.windows[-1][0] = 1
    ost = lab.random.choice(lab.osts)
    lost = lab.store_of(ost)
    ost.kill()
    os.unlink(ost.store)
    ost.make_store()
    lab.sleep(lab.random.uniform(0, seconds))
    ost.start()
    lab.must(not lab.is_healthy(), "a disk is lost, and the status says that the cluster is healthy")
    wait_until("the volume has left the lost disk", lambda: not lab.keeps(lost), 120, 0.5)
    wait_until("the OST with the lost disk is forgotten", lambda: lab.forgets(lost), 90, 2)


def old_disk(lab, seconds, number):
    """An OST is rolled back to a copy of its disk, made while it was stopped, or in the middle of its work as a snapshot of the disk is."""
    ost = lab.random.choice(lab.osts)
    old, newest = ost.store + ".old", ost.store + ".newest"
    halt, go_on = (ost.pause, ost.resume) if number % 2 else (ost.stop, ost.start)
    halt()
    ost.copy_store(ost.store, old)
    copied = time.monotonic_ns()
    go_on()
    lab.settle()
    lab.sleep(seconds)
    lab.fault(since=copied)
    ost.kill()
    os.rename(ost.store, newest)
    os.rename(old, ost.store)
    ost.start()
    # Refused, it stays away until the newest one is back; else it is brought up to date.
    if ost.wait_for_line("registered mdt=", "old copy of its disk") == "old copy of its disk":
        ost.kill()
        os.rename(newest, ost.store)
        ost.start()
    else:
        os.unlink(newest)
        # So many do not end before the writer has met the old disk and its copies there are stale: until then the cluster looks healthy.
        lab.work(200)


def storm(lab, seconds, number):
    """Several faults that overlap, on three of the daemons, and in every second round a writer that is killed in the middle of it."""
    events = []
    for victim in lab.random.sample([lab.mgs, lab.mdt] + lab.osts, 3):
        begin, end = lab.random.choice([(victim.kill, victim.start), (victim.pause, victim.resume), (victim.host.cut, victim.host.heal)])
        start = lab.random.uniform(0, seconds / 2)
        events += [(start, begin), (start + lab.random.uniform(0, seconds / 2), end)]
    if number % 2:
        events.append((lab.random.uniform(0, seconds), lab.writer.kill))
    began = time.monotonic()
    for when, act in sorted(events, key=lambda event: event[0]):
        time.sleep(max(0.0, began + when - time.monotonic()))
        act()
    if number % 2:
        lab.start_writer(*lab.writer_options, host=f"client{1 + lab.writers % 2}")


# The second value is the longest that an operation may take, in milliseconds; pauses of the writer itself are added.
SCENARIOS = [
    Scenario(kill_ost, 1000),
    Scenario(pause_ost, 5000, seconds=60),
    Scenario(cut_ost, 5000, seconds=20),
    Scenario(slow_ost, 5000),
    Scenario(restart_all, 5000),
    Scenario(kill_client, NOISE),
    Scenario(pause_client, NOISE, seconds=60),
    Scenario(two_writers, NOISE, seconds=10),
    Scenario(split_client, 5000),
    Scenario(kill_mdt, NOISE),
    Scenario(kill_mgs, NOISE),
    # An exclusion may need a new leader of etcd first.
    Scenario(kill_etcd, 5000, seconds=16, servers=3),
    Scenario(cut_machine, 5000, seconds=20, servers=3),
    Scenario(full_ost, 5000, fills=0.25, no_space=True),
    Scenario(rot, 1000),
    Scenario(lost_disk, 1000, spare_after=15),
    Scenario(old_disk, 5000, seconds=30),
    # Nobody promises more than the deadline of an operation then.
    Scenario(storm, 30000),
]


# ---- One scenario, and what must hold ----


def slow(row):
    """A machine with other work to do breaks only this by itself."""
    if row["stall_ms_max"] <= row["stall_ms_limit"]:
        return []
    return [f"an operation took {row['stall_ms_max']} ms, {row['stall_ms_limit']} are allowed"]


def judge(scenario, row):
    """What the row breaks, in sentences."""
    problems = []
    for field in ("lost", "stale_reads", "wrong_bytes", "errors"):
        if row[field] != 0:
            problems.append(f"{field} is {row[field]}, not 0")
    if row["no_space"] != 0 and not scenario.no_space:
        problems.append(f"{row['no_space']} writes were refused for want of space, and no disk was full")
    if row["members_equal"] is not True:
        problems.append("members are not equal")
    if row["acknowledged"] == 0:
        problems.append("nothing was acknowledged, so nothing was tried")
    problems += slow(row)
    if row["resync_bytes"] > 1.5 * row["changed_bytes"]:
        problems.append(f"{row['resync_bytes']} bytes were copied for {row['changed_bytes']} that had changed")
    return problems


class Run(Lab):
    """A lab with the state of one scenario."""

    def __init__(self, scenario, options):
        self.complaints = []
        rate = ["--rate", str(options.rate)]
        working = min(options.volume // 8, 64 << 20) // BLOCK
        self.writer_options = rate + scenario.writer
        super().__init__(options.programs, options.folder, random.Random(f"{options.seed} {scenario.name}"), options.replicas,
                         volume_bytes=options.volume, spare_after=scenario.spare_after, servers=scenario.servers)
        if scenario.fills == 1.0:
            self.writer_options += ["--blocks", str(working)]
        fills = int(scenario.fills * self.history.blocks)
        self.start_writer(*self.writer_options, "--fill", str(fills), *([] if scenario.fills == 1.0 else ["--blocks", str(fills)]))

    def must(self, holds, sentence):
        if not holds:
            self.complaints.append(sentence)

    def fill_up(self, ost):
        """With another volume's data; the reserve for overwrites stays."""
        junk = os.path.join(self.folder, "junk")
        with open(junk, "wb") as file:
            for _ in range(ost.store_bytes >> 20):
                file.write(os.urandom(1 << 20))
        self.rawstor("volume", "create", "--size", str(ost.store_bytes), f"{ost.url}/junk")
        try:
            self.rawstor("volume", "import", junk, f"{ost.url}/junk", timeout=300)
        except Broken as why:
            if "is full" not in str(why):
                raise
        else:
            raise Broken(f"{ost.name} is not full after {ost.store_bytes} bytes")

    def empty_again(self, ost):
        self.rawstor("volume", "rm", "--yes", f"{ost.url}/junk")


def run_scenario(scenario, options):
    rounds = options.rounds
    seconds = options.seconds or scenario.seconds
    problems = []
    with contextlib.closing(Run(scenario, options)) as lab:
        unequal, damaged = None, 0
        try:
            for number in range(rounds):
                lab.sleep(lab.random.uniform(0.5, 3))
                tell(f"{scenario.name}: round {number + 1} of {rounds}")
                lab.fault()
                scenario.round(lab, seconds, number)
                lab.settle()
            lab.writer.stop()
            lab.settle()
            lab.check_daemons()
            found = lab.verify()
            problems += found[:4]
            unequal, damaged = lab.unequal_members()
            problems += [f"members differ: {what}" for what in unequal[:4]]
        except Broken as why:
            problems.append(str(why))
        problems += lab.complaints
        history = lab.history
        stall_limit = scenario.stall_ms + lab.paused_ms_max
        row = {
            "scenario": scenario.name, "rounds": rounds, "acknowledged": history.acknowledged, "lost": history.lost,
            "stale_reads": history.stale, "wrong_bytes": history.wrong,
            "stall_ms_max": max(history.operation_ns_max, history.stall_ns_max) // 1000000, "members_equal": unequal == [],
            "resync_bytes": lab.resync_bytes(), "changed_bytes": lab.changed_bytes(), "reads": history.reads, "errors": history.errors,
            "no_space": history.no_space, "damaged_blocks": damaged, "stall_ms_limit": stall_limit,
            "idle_ms_max": history.stall_ns_max // 1000000, "seed": options.seed,
        }
        problems += judge(scenario, row)
        if problems and options.keep:
            lab.keep(os.path.join(options.keep, scenario.name))
    row["problems"] = problems
    return row


def test_checks(options):
    good = {
        "acknowledged": 1, "lost": 0, "stale_reads": 0, "wrong_bytes": 0, "errors": 0, "no_space": 0, "stall_ms_max": 7,
        "stall_ms_limit": 7, "members_equal": True, "resync_bytes": 3 * BLOCK, "changed_bytes": 2 * BLOCK,
    }
    with contextlib.closing(Run(SCENARIOS[0], options)) as lab:
        return self_test(lab, judge, SCENARIOS[0], good)


def tell(text):
    print(f"chaos: {text}", file=sys.stderr, flush=True)


def size(text):
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text)


def choose(names):
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise SystemExit(f"chaos: there is no scenario '{unknown[0]}'; there are: {', '.join(by_name)}")
    return [by_name[name] for name in names] or SCENARIOS


def main():
    parser = argparse.ArgumentParser(prog="./dev chaos", add_help=False)
    parser.add_argument("--scenario", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--volume", type=size, default="512M")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--keep")
    parser.add_argument("--programs", required=True)
    parser.add_argument("--folder", required=True)
    options = parser.parse_args()
    scenarios = choose(options.scenario)
    if os.geteuid() != 0:
        raise SystemExit("chaos: only root can make network namespaces; run it as root, or with sudo")
    os.makedirs(options.folder, exist_ok=True)
    remove_leftovers(options.folder)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    tell(f"seed {options.seed}")
    try:
        sys.exit((test_checks(options) if options.self_test else run_all(scenarios, options)) > 0)
    finally:
        remove_all(os.getpid(), options.folder)


def run_all(scenarios, options):
    """How many scenarios broke something."""
    failed = []
    for scenario in scenarios:
        row = run_scenario(scenario, options)
        if row["problems"] == slow(row) != []:
            tell(f"{scenario.name}: {row['problems'][0]}; again, since it may have been the machine")
            row = run_scenario(scenario, options)
        print(json.dumps(row), flush=True)
        if options.json:
            with open(options.json, "a") as file:
                file.write(json.dumps(row) + "\n")
        for problem in row["problems"]:
            tell(f"{scenario.name}: {problem}")
        if row["problems"]:
            failed.append(scenario.name)
    if failed:
        again = " ".join(f"--scenario {name}" for name in failed)
        tell(f"broken: {', '.join(failed)}; again with: ./dev chaos --seed {options.seed} {again}")
    return len(failed)


if __name__ == "__main__":
    main()
