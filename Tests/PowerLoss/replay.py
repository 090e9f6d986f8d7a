"""What is on a disk after its power was lost, from the log of what was written to it.

    replay.py cuts LOG FIRST LAST COUNT SEED ROOT
                                                 COUNT places to lose power at, between two numbers of entries, ascending
    replay.py rebuild LOG BASE CUT SEED IMAGE    IMAGE becomes the disk after power was lost when the log had CUT entries
    replay.py rebuild … FLUSHES KEPT             the same of a disk that broke its word: so many flushes before the cut have not happened,
                                                 and of what came after the one before them only a share from 0 to 1 is kept
    replay.py same LOG DISK                      fails unless the whole log makes the disk that was logged

The log is that of QEMU's blklogwrites and Linux' dm-log-writes: a superblock, then entries, each a sector of its own before its data.
Everything up to the last flush before the cut is on the disk. Each later write is there or not, by chance; some are torn, which leaves
some of their sectors. BASE is a file that grows from cut to cut: the disk as of the last flush, whose position is kept beside it.
"""

import os
import random
import struct
import subprocess
import sys

FLUSH, FUA, DISCARD = 1, 2, 4
MAGIC = 0x6A736677736872
# Nothing is written above this at once.
PIECE = 16 << 20


class Log:
    def __init__(self, path):
        self.file = os.open(path, os.O_RDONLY)
        magic, _, count, self.sector = struct.unpack("<QQQI", os.pread(self.file, 28, 0))
        if magic != MAGIC:
            sys.exit(f"{path} is no write log")
        # (flags, byte on the disk, bytes, byte in the log)
        self.entries = []
        at = self.sector
        for _ in range(count):
            sector, sectors, flags, _ = struct.unpack("<QQQQ", os.pread(self.file, 32, at))
            at += self.sector
            self.entries.append((flags, sector * self.sector, sectors * self.sector, at))
            if not flags & DISCARD:
                at += sectors * self.sector

    def barrier(self, cut, forgotten):
        """How many entries are on the disk for certain: those up to the last flush before the cut, or an earlier one."""
        for index in range(cut - 1, -1, -1):
            if self.entries[index][0] & FLUSH:
                forgotten -= 1
                if forgotten < 0:
                    return index if self.entries[index][2] else index + 1
        return 0

    def apply(self, index, image):
        flags, offset, count, at = self.entries[index]
        for begin in range(0, count, PIECE):
            size = min(PIECE, count - begin)
            os.pwrite(image, bytes(size) if flags & DISCARD else os.pread(self.file, size, at + begin), offset + begin)

    def apply_sectors(self, index, image, sectors):
        flags, offset, _, at = self.entries[index]
        for begin in (sector * self.sector for sector in sectors):
            os.pwrite(image, bytes(self.sector) if flags & DISCARD else os.pread(self.file, self.sector, at + begin), offset + begin)


def lose(log, image, begin, end, chance, kept):
    """Each write between the two is kept, torn or lost. How much is lost at all differs, since a cache may be large or small."""
    if kept is None:
        kept = chance.choice([0.0, 0.1, 0.5, 0.5, 0.9, 1.0])
    torn = chance.choice([0.0, 0.1, 0.3])
    lost = torn_writes = 0
    for index in range(begin, end):
        if log.entries[index][0] & FUA or chance.random() < kept:
            log.apply(index, image)
        elif chance.random() < torn:
            tear(log, image, index, chance)
            torn_writes += 1
        else:
            lost += 1
    print(f"LOST {lost} TORN {torn_writes}")


def tear(log, image, index, chance):
    sectors = log.entries[index][2] // log.sector
    if chance.random() < 0.5:
        first, last = sorted((chance.randrange(sectors + 1), chance.randrange(sectors + 1)))
        log.apply_sectors(index, image, range(first, last))
    else:
        log.apply_sectors(index, image, [sector for sector in range(sectors) if chance.random() < 0.5])


def advance(log, base, barrier):
    """Brings the base, a file of the disk's size, up to a number of entries."""
    try:
        with open(base + ".position") as file:
            position = int(file.read())
    except FileNotFoundError:
        position = 0
    if position > barrier:
        sys.exit(f"{base} is past entry {barrier} already")
    image = os.open(base, os.O_WRONLY)
    for index in range(position, barrier):
        log.apply(index, image)
    os.close(image)
    with open(base + ".position", "w") as file:
        file.write(str(barrier))


def rebuild(path, base, cut, seed, target, forgotten=0, kept=None):
    log, cut = Log(path), int(cut)
    barrier = log.barrier(cut, int(forgotten))
    advance(log, base, barrier)
    subprocess.run(["cp", "--sparse=always", base, target], check=True)
    image = os.open(target, os.O_WRONLY)
    lose(log, image, barrier, cut, random.Random(f"{seed} {cut}"), kept and float(kept))
    os.close(image)
    print(f"{barrier} entries on the disk for certain, {cut - barrier} at stake")


def cuts(path, first, last, count, seed, root):
    """A quarter of them anywhere; a quarter just before a flush, when most is at stake; a quarter just after one, when the least loss
    breaks a promise; and a quarter while the superblocks are written, which stand in two blocks at the byte ROOT."""
    log, chance = Log(path), random.Random(seed)
    first, last, root = int(first), int(last), int(root)
    flushes = [index for index in range(first, last) if log.entries[index][0] & FLUSH]
    roots = [index for index in range(first, last) if root <= log.entries[index][1] < root + 8192 and log.entries[index][2]]

    def anywhere():
        return chance.randint(first, last)

    def before_a_flush():
        # The longer the stretch without a flush, the likelier.
        place = anywhere()
        return next((index for index in flushes if index >= place), last)

    def after_a_flush():
        return chance.choice(flushes) + 1

    def near_a_root():
        return min(max(chance.choice(roots) + chance.randint(-20, 4), first), last)

    if not flushes or not roots:
        sys.exit(f"{len(flushes)} flushes, {len(roots)} writes of superblocks: nothing to choose from")
    ways = [anywhere, before_a_flush, after_a_flush, near_a_root]
    print("\n".join(map(str, sorted(ways[number % len(ways)]() for number in range(int(count))))))


def same(path, disk):
    log, replayed = Log(path), disk + ".replayed"
    with open(replayed, "wb") as file:
        file.truncate(os.path.getsize(disk))
    advance(log, replayed, len(log.entries))
    result = subprocess.run(["cmp", replayed, disk]).returncode
    os.remove(replayed)
    os.remove(replayed + ".position")
    sys.exit(result)


verbs = {"cuts": cuts, "rebuild": rebuild, "same": same}
if len(sys.argv) < 2 or sys.argv[1] not in verbs:
    sys.exit(__doc__)
verbs[sys.argv[1]](*sys.argv[2:])
