"""Shows that each check of the chaos test fires: what it must find is put there on purpose."""
import os

from lab import BLOCK, Broken, wait_until


def self_test(lab, judge, scenario, row):
    """`row` is a good one of `scenario`. Returns how many checks did not fire."""
    failed = 0

    def check(what, holds):
        nonlocal failed
        print(f"{'ok' if holds else 'not ok'} - {what}", flush=True)
        failed += not holds

    def comes(what, condition):
        try:
            wait_until(what, condition)
        except Broken as why:
            check(str(why), False)
        else:
            check(what, True)

    history = lab.history
    lab.work(500)
    lab.writer.stop()
    check("a volume to which nothing has happened is found good", lab.verify() == [])

    block = next(block for block in range(1, history.blocks) if history.word(history.acknowledged_place(block)) > 0)
    for place, kind in ((history.acknowledged_place(block), "LOST"), (history.seen_place(block), "STALE")):
        before = history.word(place)
        history.word(place, max(history.word(history.acknowledged_place(block)), before) + 1)
        found = lab.verify()
        check(f"a history with a forged {'acknowledgement' if kind == 'LOST' else 'read'} is {kind}: {found}",
              len(found) == 1 and found[0].startswith(f"{kind} block {block} "))
        history.word(place, before)
    check("and good again without it", lab.verify() == [])

    lab.spoil(block)
    found = lab.verify()
    check(f"a block with what belongs to another one is WRONG: {found}", len(found) == 1 and found[0].startswith(f"WRONG block {block} "))

    # The next writer overwrites it; it finds at once what is older than it must be.
    lab.start_writer("--rate", "2000", "--blocks", "64", "--fill", "64")
    before = history.stale
    history.word(history.acknowledged_place(7), 1 << 60)
    comes("a read of a writer at work is stale when a later write is on record", lambda: history.stale > before)
    history.word(history.acknowledged_place(7), 0)
    history.word(history.seen_place(7), 0)
    for ost in lab.osts:
        ost.pause()
    # The fault itself: so long nobody answers.
    lab.sleep(1.2)
    for ost in lab.osts:
        ost.resume()
    comes("an operation that had to wait for longer than a second is measured", lambda: history.operation_ns_max > 1000000000)
    lab.writer.stop()

    ost.stop()
    ost.copy_store(ost.store, ost.store + ".old")
    ost.start()
    lab.start_writer("--rate", "2000", "--blocks", str(history.blocks))
    lab.work(2000)
    lab.writer.stop()
    lab.settle()
    unequal, damaged = lab.unequal_members()
    check("members to which nothing has happened are equal", (unequal, damaged) == ([], 0))
    lab.restart()
    lab.settle()
    for other in lab.osts:
        other.stop()
    ost.flip_bits(lab.random, 200)
    lab.restart()
    unequal, damaged = lab.unequal_members()
    check("flipped bits are damage, and no difference", unequal == [] and 0 < damaged <= 200)
    lab.restart()
    ost.stop()
    os.rename(ost.store + ".old", ost.store)
    unequal, damaged = lab.unequal_members()
    check(f"an old disk differs from the other members, in {len(unequal)} blocks", len(unequal) > 10)

    check("a good row is good", judge(scenario, row) == [])
    for field, value, word in (
        ("lost", 1, "lost"), ("stale_reads", 1, "stale_reads"), ("wrong_bytes", BLOCK, "wrong_bytes"), ("errors", 1, "errors"),
        ("no_space", 1, "space"),
        ("members_equal", False, "equal"), ("acknowledged", 0, "nothing"), ("stall_ms_max", row["stall_ms_limit"] + 1, "took"),
        ("resync_bytes", row["changed_bytes"] * 2 + 1, "copied"),
    ):
        problems = judge(scenario, dict(row, **{field: value}))
        check(f"a row in which {field} is {value} is not", len(problems) == 1 and word in problems[0])
    return failed
