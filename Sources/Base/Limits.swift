/// Every bound of the system, in one place. Running into one is an error reply, never growth.
///
/// The relations between them are checked by `Limits.check()`, which every executable and the tests call first.
public enum Limits {
    // Frames
    /// Payload of one data request.
    public static let frameBytesMax = 1 << 20
    public static let frameBlocksMax = frameBytesMax / Block.bytes
    /// A large read goes as several requests of this size: the disk reads on while the first ones are on their way.
    public static let readBytes = 256 << 10
    /// The part of a frame between header and payload: checks of a data request, or the body of a control request.
    public static let metaBytesMax = 64 << 10
    public static let nameBytesMax = 128

    /// Blocks of one write-zeroes or discard request: each of them is listed in doubt until the mark passes it.
    public static let zeroBlocksMax = 2048

    // Volumes
    public static let chunkBytesDefault: UInt64 = 4 << 20
    public static let volumeBytesMax: UInt64 = 1 << 50
    public static let membersMax = 64
    /// Rows of a volume's map; chunk i uses row i mod their number.
    public static let placementsMax = 1024
    /// Members of one volume that are on their way to other OSTs at once; the next ones follow.
    public static let movesMax = 128
    /// OSTs that may join a map for that, beyond those it has.
    public static let movesStoresMax = 8
    /// What the OSTs of a volume keep of its map: beside it a request that brings it has its own fields in one meta section.
    public static let volumeRecordBytesMax = metaBytesMax - 512
    /// Each name in `room/rack/host`.
    public static let domainNameBytesMax = 64
    /// What a machine calls itself.
    public static let hostNameBytesMax = 64
    /// Addresses under which clients find one OST, and their characters together.
    public static let endpointsPerOSTMax = 4
    public static let endpointsBytesMax = 160

    // An OST
    public static let connectionsMax = 1024
    /// Requests of one connection that wait for the store; beyond, its socket is not read.
    public static let requestsPerConnectionMax = 256
    /// Requests of one OST, all connections together.
    public static let requestsMax = 2048
    /// Volumes that one connection has open.
    public static let handlesPerConnectionMax = 64
    public static let objectsMax = 1 << 16
    /// A store is at most this large, since an address in memory is 32 bits of 4 KiB blocks.
    public static let storeBlocksMax: UInt64 = 1 << 32
    /// Versions that no mark has passed yet, with their old blocks.
    public static let doubtsMax = 1 << 17

    // A cluster
    public static let ostsMax = 4096
    /// Of a metadata or management server: each OST has one connection to it, and so has each writer, reader and command.
    public static let serverConnectionsMax = 2 * ostsMax
    /// Of one cluster; also the servers that one address may name.
    public static let metadataServersMax = 16
    /// An OST tells a metadata server this often that it is there.
    public static let heartbeatInterval = Interval.seconds(5)
    /// One that was not heard of for this long gets no parts of new volumes.
    public static let heartbeatTimeout = Interval.seconds(30)
    /// One that was not heard of for this long gets its members moved to others, if nothing else is said.
    public static let spareAfterDefault = Interval.seconds(600)
    /// A management server forgets whom it has not heard of for this long.
    public static let directoryMemory = Interval.seconds(600)
    /// A client whose metadata servers are away asks a management server at most this often.
    public static let directoryAskInterval = Interval.seconds(1)
    /// The writer of a volume sends something to the metadata server at least this often.
    public static let writerPingInterval = Interval.seconds(2)
    /// One that is silent for this long gives way to the next who opens the volume.
    public static let writerSilenceMax = Interval.seconds(8)
    /// An exclusion has this long at a metadata server, where there are others: the machine that took an OST along may have been its own.
    public static let exclusionPatience = Interval.milliseconds(500)
    /// A metadata server of several says so in the catalogue this often.
    public static let serverBeatInterval = Interval.seconds(2)
    /// It stops to work on objects when it could not, for this long since the last time that it began to.
    public static let serverTenure = Interval.seconds(6)
    /// For one request of a metadata server to an OST.
    public static let serverRequestDeadline = Interval.seconds(10)
    /// After this long without it another one takes over its work.
    public static let serverSilenceMax = Interval.seconds(20)
    /// And after this long it is forgotten.
    public static let serverMemory = Interval.seconds(3600)

    /// The longest that a volume lets writes wait below its floor before they fail, if they do.
    public static let floorPatienceMax = Interval.seconds(86_400)

    // Memory of an OST beside its map
    public static let memoryForBuffers = 64 << 20
    /// Code, stacks, and the tables of a thousand connections.
    public static let memoryForProgram = 48 << 20

    // Durability
    /// The store makes a barrier by itself after this many bytes or this long.
    public static let barrierBytes = 64 << 20
    public static let barrierInterval = Interval.seconds(1)
    /// The writer tells its mark within this long of idling.
    public static let markInterval = Interval.seconds(1)

    /// Of a store whose blocks have so much room together: kept for overwrites when it is full.
    public static func reserveBytes(ofCapacity bytes: UInt64) -> UInt64 { min(bytes / 16, UInt64(4 * barrierBytes)) }
    /// A write waits this long for room that marks and barriers are about to give back; then the store is full.
    public static let spaceWait = Interval.seconds(10)

    // Time
    public static let requestDeadlineDefault = Interval.seconds(30)
    public static let connectDeadline = Interval.seconds(5)
    public static let helloDeadline = Interval.seconds(10)
    /// For the Unix socket of a daemon that has just answered over TCP.
    public static let nearbyDeadline = Interval.seconds(1)
    /// Without a request or a keep-alive for this long a connection is closed.
    public static let idleTimeout = Interval.seconds(60)
    public static let keepAliveInterval = Interval.seconds(15)
    /// A peer that takes no byte of what waits for it, or does not go on with a payload, for this long is closed: it holds buffers.
    public static let stallTimeout = Interval.seconds(20)
    /// The same while others wait for the buffers that it holds.
    public static let stallTimeoutWanted = Interval.seconds(5)
    /// A payload or a reply is one megabyte at most: while others wait for its buffer it must have moved whole in this time.
    public static let transferTimeoutWanted = Interval.seconds(15)
    /// A daemon that stops, or a connection that closes, waits this long for what is under way.
    public static let stopDeadline = Interval.seconds(5)
    public static let reconnectDelayMin = Interval.milliseconds(20)
    /// While one that was there a moment ago may be back at any time.
    public static let reconnectDelaySoon = Interval.milliseconds(50)
    public static let reconnectDelayMax = Interval.seconds(2)

    // The client
    public static let operationsPerVolumeMax = 1024
    /// Pieces of operations under way at once.
    public static let partsPerVolumeMax = 1024
    /// OSTs that keep one volume.
    public static let peersPerVolumeMax = 256
    public static let volumesPerContextMax = 64

    // The catalogue of a metadata server; within the limits that etcd has by default
    public static let metaKeyBytesMax = 512
    public static let metaValueBytesMax = 1 << 20
    /// Conditions of one transaction, its changes, keys of one read: each.
    public static let metaTransactionKeysMax = 128
    /// Keys and values that one transaction puts, together; etcd takes requests of 1.5 MiB.
    public static let metaTransactionBytesMax = 5 << 18
    public static let metaPageEntriesMax = 1024
    /// A page of a listing ends before this, unless its first entry alone is larger.
    public static let metaPageBytesMax = 4 << 20
    /// Calls under way.
    public static let metaCallsMax = 1024
    /// To connect to one server of etcd, and for one request to it.
    public static let etcdConnectTimeout = Interval.seconds(1)
    public static let etcdRequestTimeout = Interval.seconds(2)
    /// A call, with its time in the queue and all servers that are asked.
    public static let etcdCallTimeout = Interval.seconds(8)
    /// The largest read there may be, in the letters of base64, and what stands around them.
    public static let etcdAnswerBytesMax = 192 << 20

    public static func check() {
        invariant(frameBytesMax % Block.bytes == 0, "frames hold whole blocks")
        invariant(readBytes <= frameBytesMax && readBytes % Block.bytes == 0, "a piece of a read fits a frame")
        invariant(metaBytesMax >= frameBlocksMax * 4, "the checks of a full frame fit")
        invariant(volumeRecordBytesMax + 48 <= 0xfff8, "a volume record fits a record of the log")
        invariant(requestsMax >= requestsPerConnectionMax, "one connection cannot ask for more than there is")
        invariant(
            spaceWait < requestDeadlineDefault && markInterval < spaceWait,
            "a wait for room ends in time, and lasts longer than a mark takes")
        invariant(zeroBlocksMax * 4 <= doubtsMax, "a discard fits the doubt list")
        invariant(doubtsMax * Block.bytes >= 2 * barrierBytes, "doubts outlast a barrier: the mark passes what is durable")
        invariant(handlesPerConnectionMax >= volumesPerContextMax, "a context can have all its volumes on one OST")
        invariant(keepAliveInterval < idleTimeout, "a live client is never idle")
        invariant(chunkBytesDefault % UInt64(frameBytesMax) == 0, "a chunk is whole frames")
        invariant(
            heartbeatInterval < heartbeatTimeout && heartbeatTimeout < spareAfterDefault && writerPingInterval < writerSilenceMax,
            "a lost heartbeat or ping is no silence")
        invariant(heartbeatTimeout < directoryMemory, "who is away is listed as away before it is forgotten")
        invariant(serverBeatInterval < serverTenure && serverBeatInterval < writerSilenceMax, "a lost sign of life is no silence")
        invariant(
            serverTenure.nanoseconds + serverRequestDeadline.nanoseconds < serverSilenceMax.nanoseconds,
            "the last request of a server that was cut off has ended when another one takes over")
        invariant(metaKeyBytesMax + metaValueBytesMax <= metaTransactionBytesMax, "the largest entry fits a transaction")
        invariant(
            etcdConnectTimeout < etcdRequestTimeout && etcdRequestTimeout < etcdCallTimeout, "a silent server leaves time for the next one")
    }
}
