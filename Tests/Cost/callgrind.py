"""What a callgrind profile says of each of our modules: instructions, and allocations.

A function of ours counts for its module. What it calls that is not ours (memcpy, the Swift runtime, Base) counts for the caller, as long
as it never leads back to us. CRCs are counted apart: which instructions they take is the processor's choice, not ours.
"""
import collections, re

# The simulator and the probe are ours as well, but nobody ships them.
GROUPS = {
    "engine": ("PartStore", "OSTEngine"),
    "codec": ("Wire",),
    "client": ("VolumeEngine", "Client"),
    "daemon": ("OSTDaemon",),
    "simulator": ("Simulation", "CostProbe", "Environment"),
}
MODULES = {module: group for group, modules in GROUPS.items() for module in modules}
ALLOCATORS = ("malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc")
# Of our own call: a name "FUNCTION'CALLER" carries the callers that callgrind was told to separate.
PREFIX = re.compile(r"^\$[sS](\d+)(.*)$")
SPECIALISED = re.compile(r"(?<!\d)(\d{1,2})([A-Z][A-Za-z]*)")


def module_of(function):
    """The group that a mangled Swift name belongs to: of its own module, or, for code of the standard library that was made for a type
    of ours, of that type's."""
    match = PREFIX.match(function)
    if match:
        length, rest = int(match[1]), match[2]
        if rest[:length] in MODULES:
            return MODULES[rest[:length]]
        if rest[:length] in ("Base", "CISAL"):
            return None
    if function.startswith("$s"):
        for length, rest in SPECIALISED.findall(function):
            if rest[: int(length)] in MODULES:
                return MODULES[rest[: int(length)]]
    return None


class Profile:
    def __init__(self, path):
        self.own = collections.Counter()
        self.calls = collections.Counter()
        self.inclusive = collections.Counter()
        self.names = {}
        self.objects = {}
        self.objects_of = {}
        with open(path, errors="replace") as lines:
            self.read(lines)
        self.callees = collections.defaultdict(set)
        for caller, callee in self.calls:
            self.callees[caller].add(callee)

    def name(self, text, table):
        match = re.match(r"\((\d+)\)(?: (.*))?$", text)
        if not match:
            return text
        if match[2] is not None:
            table[match[1]] = match[2]
        return table[match[1]]

    def read(self, lines):
        function = callee = None
        isCall = False
        library = called = ""
        for line in lines:
            if line[0].isdigit() or line[0] in "+-*":
                fields = line.split()
                cost = int(fields[1]) if len(fields) > 1 else 0
                if isCall:
                    self.inclusive[function, callee] += cost
                    isCall = False
                else:
                    self.own[function] += cost
            elif line.startswith("fn="):
                function = self.name(line[3:].strip(), self.names)
                self.objects_of.setdefault(function, library)
            elif line.startswith("cfn="):
                callee = self.name(line[4:].strip(), self.names)
                self.objects_of.setdefault(callee, called or library)
                called = ""
            elif line.startswith("calls="):
                self.calls[function, callee] += int(line[6:].split()[0])
                isCall = True
            elif line.startswith("ob="):
                library = self.name(line[3:].strip(), self.objects)
            elif line.startswith("cob="):
                called = self.name(line[4:].strip(), self.objects)

    def foreign(self, function):
        return module_of(function.split("'")[0]) is None

    def leads_back(self):
        """Functions that are not ours and from which ours are reached."""
        callers = collections.defaultdict(set)
        for caller, callee in self.calls:
            callers[callee].add(caller)
        found = set()
        todo = [f for f in callers if not self.foreign(f)]
        while todo:
            for caller in callers[todo.pop()]:
                if self.foreign(caller) and caller not in found:
                    found.add(caller)
                    todo.append(caller)
        return found

    def instructions(self):
        """Instructions of each group, and of CRCs."""
        costs = collections.Counter()
        back = self.leads_back()
        crc = self.checksums()
        for function, cost in self.own.items():
            if not self.foreign(function):
                costs[module_of(function.split("'")[0])] += cost
        for (caller, callee), cost in self.inclusive.items():
            if self.foreign(callee) and callee not in back and not self.foreign(caller):
                costs["crc" if callee in crc else module_of(caller.split("'")[0])] += cost
        return costs

    def checksums(self):
        return {f for f in self.objects_of if "isal" in self.objects_of[f] or f.startswith("crc32_iscsi")}

    def allocations(self):
        """Calls of the allocator, by the group of the nearest function of ours among the callers."""
        counts = collections.Counter()
        for (caller, callee), count in self.calls.items():
            chain = callee.split("'")
            if chain[0] not in ALLOCATORS:
                continue
            groups = [group for group in map(module_of, chain[1:]) if group]
            counts[groups[0] if groups else "other"] += count
        return counts

    def allocating(self, group):
        """Who allocates, for the message of a gate that fails."""
        callers = collections.Counter()
        for (caller, callee), count in self.calls.items():
            chain = callee.split("'")
            if chain[0] in ALLOCATORS:
                ours = [f for f in chain[1:] if module_of(f)]
                if ours and module_of(ours[0]) == group:
                    callers[ours[0]] += count
        return callers.most_common(5)
