"""Keeps the commands in README.md and docs/ true.

    docs.py check [FILE…]   every command in a ```sh block exists, with its verb or subcommand and its long options
    docs.py run [FILE…]     the blocks that are marked ```sh run do what they say: each is run from the top of the tree

In a block that has lines beginning with "$ " only those are commands (the rest shows output); in others every line is one. Programs of
ours are asked by --help where they have been built, and left alone where not.
"""

import functools
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = {"rawstor", "rawstor-mdt", "rawstor-mgs", "rawstor-ost", "rawstor-sim"}
# Commands that a reader has and this machine may lack, and words of the shell.
ELSEWHERE = {"cd", "export", "git", "sudo", "systemctl", "apt-get", "man", "gcc", "cc", "fio", "qemu-img", "qemu-nbd", "curl"}


def files(arguments):
    if arguments:
        return [pathlib.Path(a) for a in arguments]
    return [p for p in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if p.exists()]


def blocks(path):
    """(info string, number of the first line, lines) of each fenced block whose language is sh."""
    info, start, lines = None, 0, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fence = re.match(r"\s*```(.*)$", line)
        if fence and info is None:
            info, start, lines = fence[1].strip(), number + 1, []
        elif fence:
            if info.split()[:1] == ["sh"]:
                yield info, start, lines
            info = None
        elif info is not None:
            lines.append(line)


def commands(lines, start):
    """(line number, command) of each command, with continued lines joined."""
    prompted = any(line.startswith("$ ") for line in lines)
    pending, first = "", 0
    for number, line in enumerate(lines, start):
        if not pending:
            if prompted and not line.startswith("$ "):
                continue
            first, line = number, line[2:] if prompted else line
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
            continue
        if pending.strip() and not pending.lstrip().startswith("#"):
            yield first, pending
        pending = ""


@functools.cache
def built(program):
    """Whichever build is newer: the other may be from before the docs were written."""
    paths = [path for folder in ("release", "debug") if (path := ROOT / ".build" / folder / program).exists()]
    return str(max(paths, key=lambda path: path.stat().st_mtime)) if paths else None


@functools.cache
def help_text(*command):
    """What `command --help` prints, or None when it fails."""
    try:
        result = subprocess.run(
            [*command, "--help"], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return None
    return result.stdout + result.stderr if result.returncode == 0 else None


def simple_commands(text):
    """The words of each command of a line, which may hold several joined by | && || ;"""
    words = shlex.split(text, comments=True)
    current = []
    for word in words:
        if word in ("|", "&&", "||", ";", "&"):
            yield current
            current = []
        elif word.endswith(";"):
            yield current + [word[:-1]]
            current = []
        else:
            current.append(word)
    yield current


def problem(words):
    """What is wrong with one command; None when nothing is."""
    while words and (re.match(r"\w+=", words[0]) or words[0] == "sudo"):
        words = words[1:]
    if not words:
        return None
    program = words[0]
    if program == "./dev":
        asked, shown = [str(ROOT / "dev")], ["./dev"]
    elif program in OURS:
        if built(program) is None:
            return None
        asked, shown = [built(program)], [program]
    elif program.startswith((".", "/")):
        return None if (ROOT / program).exists() else f"there is no {program}"
    elif program in ELSEWHERE or shutil.which(program):
        return None
    else:
        return f"there is no command '{program}'"
    # Subcommands are the plain words in front; names, paths and URLs have something else in them or stand behind an option.
    for word in words[1:]:
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        asked.append(word)
        shown.append(word)
        if program == "./dev":
            break
    text = help_text(*asked)
    if text is None:
        return f"'{' '.join(shown)} --help' fails, so there is no such command"
    for word in words:
        option = re.match(r"--[a-z][a-z-]*", word)
        if option and option[0] != "--help" and not re.search(re.escape(option[0]) + r"(?![a-z-])", text):
            return f"'{' '.join(shown)} --help' knows no option {option[0]}"
    return None


def check(paths):
    problems, count = [], 0
    for path in paths:
        for _, start, lines in blocks(path):
            for number, text in commands(lines, start):
                count += 1
                try:
                    found = [p for p in map(problem, simple_commands(text)) if p]
                except ValueError as error:
                    found = [f"the shell cannot read this: {error}"]
                problems += [f"{path}:{number}: {p}" for p in found]
    print("\n".join(problems) if problems else f"{count} commands in {len(paths)} files exist")
    return bool(problems)


def run(paths):
    failures, count = 0, 0
    path_variable = os.pathsep.join([str(ROOT / ".build/release"), str(ROOT / ".build/debug"), os.environ["PATH"]])
    for path in paths:
        for info, start, lines in blocks(path):
            if "run" not in info.split()[1:]:
                continue
            count += 1
            script = "set -euo pipefail\n" + "\n".join(text for _, text in commands(lines, start))
            # A folder of its own for what a daemon leaves behind, so that nobody's running one is touched.
            with tempfile.TemporaryDirectory(prefix="rawstor-docs-") as state:
                environment = {**os.environ, "PATH": path_variable, "RAWSTOR_STATE": state}
                try:
                    result = subprocess.run(
                        ["bash", "-c", script], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT, text=True, timeout=600)
                    status, output = result.returncode, result.stdout
                except subprocess.TimeoutExpired as expired:
                    status, output = "nothing within 600 s", (expired.stdout or b"").decode()
            if status != 0:
                failures += 1
                print(f"{path}:{start}: this block ends with {status}:\n{output}")
    print(f"{count - failures} passed, {failures} failed")
    return failures > 0


if __name__ == "__main__":
    verbs = {"check": check, "run": run}
    if len(sys.argv) < 2 or sys.argv[1] not in verbs:
        sys.exit(__doc__)
    sys.exit(verbs[sys.argv[1]](files(sys.argv[2:])))
