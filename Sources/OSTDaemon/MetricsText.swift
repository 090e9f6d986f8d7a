import Base
import OSTEngine
import Wire

/// The metrics of one OST in Prometheus' text format 0.0.4.
struct MetricsText {
    private(set) var text = ""

    init(_ engine: borrowing OSTEngine) {
        requests(engine.counters)
        latencies(engine.counters)
        disk(engine)
        gauges(engine)
    }

    private mutating func requests(_ counters: OSTCounters) {
        head("requests_total", "counter", "Requests taken, by opcode.")
        for opcode in Opcode.allCases where opcode != .event && !opcode.isOfMetadata && !opcode.isOfManagement {
            line("requests_total", "opcode=\"\(opcode)\"", "\(counters.requests[Int(opcode.rawValue)])")
        }
        head("errors_total", "counter", "Requests that ended in an error, by status.")
        for status in Status.allCases where status != .ok {
            line("errors_total", "status=\"\(status)\"", "\(counters.replies[Int(status.rawValue)])")
        }
        single("read_bytes_total", "counter", "Bytes of volumes sent to clients.", counters.readBytes)
        single("written_bytes_total", "counter", "Bytes of volumes taken from clients.", counters.writtenBytes)
        single("connections_accepted_total", "counter", "Connections accepted.", counters.connectionsAccepted)
        single("connections_refused_total", "counter", "Connections refused for a limit.", counters.connectionsRefused)
        single("malformed_frames_total", "counter", "Connections closed for what they sent.", counters.malformedFrames)
        single("store_failures_total", "counter", "Times that the disk failed and the store was loaded anew.", counters.storeFailures)
    }

    private mutating func latencies(_ counters: OSTCounters) {
        head("request_seconds", "histogram", "From the receipt of a request to its reply being queued.")
        histogram("read", counters.reads)
        histogram("write", counters.writes)
        histogram("flush", counters.flushes)
    }

    private mutating func histogram(_ kind: String, _ histogram: LatencyHistogram) {
        var count: UInt64 = 0
        for index in 0..<LatencyHistogram.bucketCount {
            count += histogram.buckets[index]
            let bound = seconds(nanoseconds: LatencyHistogram.boundMicroseconds(index) * 1000)
            line("request_seconds_bucket", "kind=\"\(kind)\",le=\"\(bound)\"", "\(count)")
        }
        line("request_seconds_bucket", "kind=\"\(kind)\",le=\"+Inf\"", "\(histogram.count)")
        line("request_seconds_sum", "kind=\"\(kind)\"", seconds(nanoseconds: histogram.sumNanoseconds))
        line("request_seconds_count", "kind=\"\(kind)\"", "\(histogram.count)")
    }

    private mutating func disk(_ engine: borrowing OSTEngine) {
        let statistics = engine.storeStatistics
        single("disk_reads_total", "counter", "Reads of the disk since the store was loaded.", statistics.diskReads)
        single("disk_writes_total", "counter", "Writes to the disk since the store was loaded.", statistics.diskWrites)
        single("disk_written_bytes_total", "counter", "Bytes written to the disk, log included.", statistics.diskWrittenBytes)
        single("disk_flushes_total", "counter", "Flushes of the disk.", statistics.diskFlushes)
        single("damaged_reads_total", "counter", "Blocks read that were not what had been written.", statistics.damagedReads)
        single("damaged_blocks", "gauge", "Blocks that could not be read, and were not overwritten since.", statistics.damagedBlocks)
        single("capacity_bytes", "gauge", "Space for blocks.", statistics.capacityBytes)
        single("free_bytes", "gauge", "Of that, not in use.", statistics.freeBytes)
        single("used_bytes", "gauge", "Of that, taken by blocks of volumes.", statistics.usedBytes)
        single("blocks_in_doubt", "gauge", "Blocks written that not all copies are known to have.", statistics.blocksInDoubt)
        single("requests_waiting_for_space", "gauge", "Writes that wait for room.", statistics.requestsWaitingForSpace)
        single("map_bytes", "gauge", "Memory that the map of blocks takes.", statistics.mapBytes)
    }

    private mutating func gauges(_ engine: borrowing OSTEngine) {
        single("objects", "gauge", "Objects in the store.", UInt64(engine.objectCount))
        single("connections", "gauge", "Clients connected.", UInt64(engine.connectionCount))
        single("requests_in_flight", "gauge", "Requests whose reply has not been sent.", UInt64(engine.requestsInFlight))
        head("free_buffers", "gauge", "Payload buffers that no request holds.")
        line("free_buffers", "class=\"small\"", "\(engine.freeBuffers.small)")
        line("free_buffers", "class=\"large\"", "\(engine.freeBuffers.large)")
        single("store_up", "gauge", "1 while the store serves, 0 while it is loaded anew.", engine.hasFailed ? 0 : 1)
    }

    private mutating func single(_ name: String, _ kind: String, _ help: String, _ value: UInt64) {
        head(name, kind, help)
        text += "rawstor_ost_\(name) \(value)\n"
    }

    private mutating func head(_ name: String, _ kind: String, _ help: String) {
        text += "# HELP rawstor_ost_\(name) \(help)\n# TYPE rawstor_ost_\(name) \(kind)\n"
    }

    private mutating func line(_ name: String, _ labels: String, _ value: String) { text += "rawstor_ost_\(name){\(labels)} \(value)\n" }

    private func seconds(nanoseconds: UInt64) -> String {
        let fraction = String(nanoseconds % 1_000_000_000)
        return "\(nanoseconds / 1_000_000_000)." + String(repeating: "0", count: 9 - fraction.utf8.count) + fraction
    }
}
