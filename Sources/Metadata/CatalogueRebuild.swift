import Base
import MetaStore
import Placement
import Wire

/// A catalogue made anew from what the disks say of themselves (P7). Pure: what every OST has told goes in; volumes and OSTs come out, or
/// the reasons why not. It refuses rather than guesses:
///
/// - Of each volume the record with the highest map number counts. An exclusion is stamped on every member that remains before anything is
///   acknowledged without the one excluded, so whichever of them is asked knows of it.
/// - Every member that this record calls in sync or filling must have been asked, also in a place that it is moving to: one that was not
///   may know of a later exclusion, or have become the one that counts. Whoever counts in the next map counts in this one, or is being
///   filled in it; so from record to record somebody who is asked knows more, up to the last one.
/// - Two records of one number say the same, or somebody has decided twice.
/// - A member in sync has its object. One that has not was removed with the volume, or has lost it.
///
/// What comes out is never better than what was: nothing that was stale is in sync, and what was being filled is stale. Map numbers go on
/// at the next multiple of `mapStep`: whatever an old catalogue may still decide stays below.
public struct CatalogueRebuild: Sendable {
    /// One OST, as it was asked.
    public struct Scan: Sendable {
        public var endpoint: String
        public var hello: Hello
        public var capacityBytes: UInt64
        public var freeBytes: UInt64
        public var objects: [ScannedObject]

        public init(endpoint: String, hello: Hello, capacityBytes: UInt64, freeBytes: UInt64, objects: [ScannedObject]) {
            self.endpoint = endpoint
            self.hello = hello
            self.capacityBytes = capacityBytes
            self.freeBytes = freeBytes
            self.objects = objects
        }

        var name: String { "OST \(endpoint) (store \(hello.store))" }
    }

    /// An object with what it knows of its volume.
    public struct ScannedObject: Sendable {
        public var object: ObjectRecord
        public var map: VolumeMap?
        public var resizes: UInt64

        public init(_ object: ObjectRecord, map: VolumeMap?, resizes: UInt64) {
            self.object = object
            self.map = map
            self.resizes = resizes
        }
    }

    static let mapStep: UInt64 = 1 << 32

    /// Of the catalogue to be; above all that any OST knows.
    public var incarnation: UInt64 = 1
    /// In the order of their names.
    public private(set) var volumes: [VolumeRecord] = []
    public private(set) var osts: [OSTRecord] = []
    /// What will not be as it was, and what is left alone.
    public private(set) var notes: [String] = []
    /// Why there is no such catalogue; empty if there is.
    public private(set) var refusals: [String] = []

    private let scans: [Scan]
    private let lost: Set<Identifier>
    private let now: UInt64

    /// `without`: names or ids of volumes that are left out. `lost`: stores that will never come back; what they knew is given up.
    public init(_ scans: [Scan], without: [String] = [], lost: Set<Identifier> = [], wallClockMilliseconds: UInt64) {
        self.scans = scans.sorted { $0.hello.store < $1.hello.store }
        self.lost = lost
        now = wallClockMilliseconds
        checkIdentities()
        incarnation = (scans.map(\.hello.incarnation).max() ?? 0) + 1
        var left = Set(without)
        for (id, found) in group() { add(id, found, &left) }
        volumes.sort { $0.object.name < $1.object.name }
        for name in left.sorted() { refusals.append("there is no volume '\(name)' to be left out; see the list") }
        refuseSameNames()
        osts = self.scans.map { ost($0) }
        for store in lost.sorted() where scans.contains(where: { $0.hello.store == store }) {
            refusals.append("store \(store) was asked, so it is not lost; leave out --lost, or its address")
        }
    }

    private mutating func checkIdentities() {
        for (first, second) in zip(scans, scans.dropFirst()) where first.hello.store == second.hello.store {
            refusals.append(
                "\(first.endpoint) and \(second.endpoint) both serve store \(first.hello.store): name it once; or, of two disks of one "
                    + "identity, stop the one that is a copy")
        }
    }

    private mutating func refuseSameNames() {
        for (first, second) in zip(volumes, volumes.dropFirst()) where first.object.name == second.object.name {
            refusals.append(
                "two volumes are named '\(first.object.name)', \(first.id) and \(second.id): one of them was removed; leave it out with "
                    + "--without ID")
        }
    }

    // Volumes

    private typealias Found = (scan: Scan, known: ScannedObject)

    /// The objects of each volume, in the order of ids.
    private mutating func group() -> [(Identifier, [Found])] {
        var groups: [Identifier: [Found]] = [:]
        for scan in scans {
            for known in scan.objects {
                let (object, text) = (known.object, "object '\(known.object.name)' of \(scan.name)")
                guard let map = known.map else {
                    if object.map > 0 {
                        refusals.append("\(text) knows map \(object.map), and has no record of it: its disk is damaged")
                    } else {
                        notes.append("\(text) is left alone: it belongs to no volume, or to one whose creation did not end")
                    }
                    continue
                }
                guard map.object.id == object.id, object.name == "\(object.id)", map.object.map == object.map else {
                    refusals.append("\(text), at map \(object.map), has a record of map \(map.object.map) of volume \(map.object.id)")
                    continue
                }
                groups[object.id, default: []].append((scan, known))
            }
        }
        return groups.keys.sorted().map { ($0, groups[$0] ?? []) }
    }

    private mutating func add(_ id: Identifier, _ found: [Found], _ without: inout Set<String>) {
        let newest = found.compactMap(\.known.map).filter { map in !found.contains { ($0.known.map?.object.map ?? 0) > map.object.map } }
        guard let map = newest.first else { return }
        let name = map.object.name
        if without.contains(name) || without.contains("\(id)") {
            without.remove(name)
            without.remove("\(id)")
            let places = found.map { "ost://\($0.scan.endpoint)/\(id)" }.joined(separator: " ")
            notes.append("'\(name)' is left out; what there is of it is removed with 'rawstor volume rm', here: \(places)")
            return
        }
        guard newest.allSatisfy({ $0.decisions == map.decisions }) else {
            refusals.append("'\(name)': two OSTs have different records of map \(map.object.map); somebody has decided twice")
            return
        }
        let problems = check(map, found)
        guard problems.isEmpty else {
            for problem in problems { refusals.append("'\(name)': \(problem)") }
            return
        }
        make(map, newest, found)
    }

    /// What is missing of a volume.
    private func check(_ map: VolumeMap, _ found: [Found]) -> [String] {
        var problems: [String] = []
        for (index, ost) in map.osts.enumerated() where !lost.contains(ost.store) {
            let places = map.entries + (mutated(.rebuildsWithoutFilling) ? [] : map.moves.map(\.entry))
            let mayCount: (MemberState) -> Bool = { $0 == .inSync || ($0 == .filling && !mutated(.rebuildsWithoutFilling)) }
            let count = places.count { $0.ost == index && mayCount($0.state) }
            guard count > 0 else { continue }
            let isInSync = places.contains { $0.ost == index && $0.state == .inSync }
            let standing = "\(isInSync ? "in sync" : "being filled, or up to date since,") in \(count) placements"
            guard let scan = scans.first(where: { $0.hello.store == ost.store }) else {
                problems.append(
                    "store \(ost.store) is \(standing) and was not asked; it was last at "
                        + "\(ost.endpoints.isEmpty ? "an address that nobody knows" : ost.endpoints.joined(separator: " "))"
                        + "\(ost.host.isEmpty ? "" : " on \(ost.host)"). Name its address with --ost; only if its disk is gone for "
                        + "good, name it with --lost")
                continue
            }
            guard found.contains(where: { $0.scan.hello.store == ost.store }) else {
                problems.append(
                    "\(scan.name) is \(standing) and has nothing of it: the volume was being removed, or that disk has "
                        + "lost it. If it was removed, leave it out with --without \(map.object.id)")
                continue
            }
        }
        for other in found where other.known.resizes > map.resizes {
            problems.append("\(other.scan.name) has gone along with resize \(other.known.resizes), the newest record knows \(map.resizes)")
        }
        for placement in 0..<map.placementCount {
            let isLeft = (0..<map.membersPerPlacement).contains {
                map[placement, $0].state == .inSync && !lost.contains(map.ost(placement, $0).store)
            }
            if !isLeft { problems.append("with the stores that are lost, nobody is left in sync in placement \(placement)") }
        }
        return problems
    }

    private mutating func make(_ map: VolumeMap, _ newest: [VolumeMap], _ found: [Found]) {
        var volume = VolumeRecord(map)
        let name = map.object.name
        volume.object.generation = max(newest.map(\.object.generation).max() ?? 0, found.map(\.known.object.generation).max() ?? 0)
        volume.object.map = (map.object.map / CatalogueRebuild.mapStep + 1) * CatalogueRebuild.mapStep
        for index in volume.entries.indices {
            let store = volume.stores[volume.entries[index].ost]
            let isStale = volume.entries[index].state == .filling || volume.entries[index].state == .inSync && lost.contains(store)
            guard isStale else { continue }
            volume.entries[index].state = .stale
            volume.entries[index].changed = volume.object.map
            // Should it come back all the same, its own mark counts for nothing: what it passed was given up here.
            if lost.contains(store) { volume.lower(.zero, of: store, at: 0) }
        }
        for index in volume.moves.indices where volume.moves[index].entry.state == .filling { volume.makeMoveStale(index) }
        volume.strays = found.map(\.scan.hello.store).filter { !volume.stores.contains($0) }.map {
            VolumeRecord.Stray(store: $0, since: volume.object.map)
        }
        // Who has gone along with the last resize says so itself; who was not asked has not, as far as anybody knows.
        let done = Set(found.filter { $0.known.resizes >= map.resizes }.map(\.scan.hello.store))
        volume.unresized.removeAll { done.contains($0.store) }
        volume.object.bytes = newest.map(\.object.bytes).max() ?? map.object.bytes
        let inUse = volume.storesInUse
        if !volume.unresized.contains(where: { inUse.contains($0.store) }) { volume.object.bytes = volume.objectBytes }
        do throws(Failure) {
            try volume.checkInvariants()
        } catch {
            refusals.append("'\(name)': its record contradicts itself: \(error.detail)")
            return
        }
        if volume.count(.stale) > 0 {
            notes.append("'\(name)': \(volume.count(.stale)) of \(volume.entries.count) members are not up to date, as far as is known")
        }
        if !lost.isDisjoint(with: volume.stores) {
            notes.append("'\(name)' had members on stores that are lost: what only these knew is given up, acknowledged writes included")
        }
        for other in found where !volume.stores.contains(other.scan.hello.store) {
            notes.append("\(other.scan.name) has an object of '\(name)', and is no member of it any more: the object will be removed there")
        }
        volumes.append(volume)
    }

    // OSTs

    /// As far as others know it; the rest comes with its first registration, which is believed whatever addresses it names.
    private func ost(_ scan: Scan) -> OSTRecord {
        let known = scans.lazy.flatMap(\.objects).compactMap(\.map).flatMap(\.osts)
            .filter { $0.store == scan.hello.store && !$0.endpoints.isEmpty }.max { $0.mountCounter < $1.mountCounter }
        let host = known?.host ?? ""
        var domain = "unknown"
        do throws(Failure) { domain = try FailureDomain(host).description } catch { domain = "unknown" }
        return OSTRecord(
            OSTRegisterRequest(
                store: scan.hello.store, mountCounter: max(scan.hello.mountCounter, 1) - 1, boot: scan.hello.boot,
                endpoints: known?.endpoints ?? [scan.endpoint], host: host, domain: domain, capacityBytes: scan.capacityBytes,
                freeBytes: min(scan.freeBytes, scan.capacityBytes), incarnation: scan.hello.incarnation),
            firstMilliseconds: now)
    }

    /// What an empty store is filled with. Each volume is a transaction of its own: together they may be too large for one.
    public var contents: [MetaTransaction] {
        invariant(refusals.isEmpty, "a catalogue is written that cannot be believed")
        var transactions = osts.map { ost in
            let key = CatalogueKeys.ost(ost.store)
            return MetaTransaction(if: [.absent(key)], [.put(key, ost.value)])
        }
        for volume in volumes {
            let (name, key) = (CatalogueKeys.name(volume.object.name), CatalogueKeys.volume(volume.id))
            let changes = [.put(name, VolumeReference(id: volume.id).value), .put(key, volume.value), ClusterCatalogue.work(volume)]
            transactions.append(MetaTransaction(if: [.absent(name), .absent(key)], changes))
        }
        return transactions
    }
}

extension VolumeMap {
    /// What a map number stands for. Addresses, the generation, and how far a resize has come change without one.
    fileprivate var decisions: VolumeMap {
        var map = self
        map.object.generation = 0
        map.object.bytes = 0
        map.unresized = []
        for index in map.osts.indices { map.osts[index] = OSTEntry(store: osts[index].store, mountCounter: 0, host: "", endpoints: []) }
        return map
    }
}
