/// What a frame asks for. The raw values are part of the wire format; gaps leave room for relatives.
public enum Opcode: UInt8, Sendable, Hashable, CaseIterable {
    // Control: the body is in the meta section.
    case hello = 1
    case create = 2
    /// Opens an object and, for writing, fences everything older.
    case open = 3
    case close = 4
    case stat = 5
    case list = 6
    case remove = 7
    case resize = 8
    /// Space and counters of the store.
    case statistics = 9
    /// Nothing but a reply: keeps an idle connection known to be alive.
    case ping = 10
    /// What an object knows of its volume: the newest map that was handed to it.
    case volumeRecord = 11
    /// Raises the incarnation of the catalogue that the store belongs to.
    case adopt = 12

    // Data: addressed by (handle, chunk, member, first block, count).
    case read = 16
    case write = 17
    case flush = 18
    /// Blocks become zero and stay so.
    case writeZeroes = 19
    /// Blocks become zero; the space is given back.
    case discard = 20
    /// Carries the completion mark, and nothing else.
    case mark = 21

    // Members of a cluster's volume.
    /// Lists what earlier generations left in doubt.
    case doubts = 22
    /// Raises the map number.
    case stamp = 23
    /// Pages written since a version.
    case changed = 24
    /// States and checks of blocks.
    case checks = 25
    /// A member is filled from here on, under a number.
    case fillBegin = 26
    /// It has everything, durably.
    case fillEnd = 27
    /// A page is as its source's.
    case fillPage = 28

    // From the server, unasked.
    case event = 32

    // To a metadata server: volumes of a cluster.
    case volumeCreate = 64
    /// Opens a volume and, for writing, raises its generation.
    case volumeOpen = 65
    /// Makes the members on some OSTs stale.
    case volumeExclude = 66
    case volumeMap = 67
    case volumeList = 68
    case volumeRemove = 69
    case volumeResize = 70
    /// The writer's session ends.
    case volumeClose = 71
    /// The stale members on some OSTs become filling.
    case volumeFill = 72
    /// The filling ones have all there is.
    case volumeInSync = 73
    /// Changes the floor, and what writes do below it.
    case volumeSet = 74
    /// How it is, since when, and what its writer is doing about it.
    case volumeHealth = 75
    /// Members that should be on other OSTs get a place there.
    case volumeReplace = 76
    /// No writer reads any more on members that have left.
    case volumeSettle = 77

    // To a metadata server: its OSTs.
    /// An OST tells where it is; repeated as its heartbeat.
    case ostRegister = 80
    case ostList = 81
    /// One that keeps nothing is forgotten.
    case ostRemove = 82
    /// One is to be emptied, or not any more.
    case ostDrain = 83

    // To a management server, which is also told of OSTs (80) and lists them (81).
    /// A metadata server tells where it is; repeated as its heartbeat.
    case mdtRegister = 96
    case mdtList = 97

    /// Whether it is asked of a metadata server, and not of an OST.
    public var isOfMetadata: Bool { rawValue >= Opcode.volumeCreate.rawValue && !isOfManagement }
    /// Whether an OST looks at its mark: with others a writer has told nothing.
    public var tellsMark: Bool {
        switch self {
        case .write, .writeZeroes, .discard, .flush, .mark, .close: true
        default: false
        }
    }
    /// Whether it is asked of a management server, and of nobody else.
    public var isOfManagement: Bool { rawValue >= Opcode.mdtRegister.rawValue }
}
