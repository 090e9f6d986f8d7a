/// Everything a disk was told, in completion order, so that a test can cut the power at any point afterwards without running again.
public final class DiskHistory {
    private enum Step {
        case write(offset: UInt64, contents: [UInt8])
        case flush(mark: UInt64)
    }

    private let origin: Media
    private let firstMark: UInt64
    private var steps: [Step] = []

    init(of media: Media) {
        origin = media.clone()
        firstMark = media.mark
    }

    /// Cut points are 0 (nothing happened yet) through `count`.
    public var count: Int { steps.count }

    /// How many flushes lie before the cut: what was written before the last of them is kept.
    public func flushes(before cut: Int) -> Int {
        steps[..<cut].reduce(0) { sum, step in
            switch step {
            case .write: sum
            case .flush: sum + 1
            }
        }
    }

    func wrote(_ offset: UInt64, _ data: UnsafeRawPointer, _ count: Int) {
        steps.append(.write(offset: offset, contents: Array(UnsafeRawBufferPointer(start: data, count: count))))
    }

    func flushed(_ mark: UInt64) { steps.append(.flush(mark: mark - firstMark)) }

    /// The disk after the first `cut` steps and a loss of power that `random` decides. Give it to `SimHost.addDisk`.
    public func media(cut: Int, _ random: inout Random) -> Media {
        let media = origin.clone()
        for step in steps[..<cut] {
            switch step {
            case .write(let offset, let contents): media.write(offset, contents)
            case .flush(let mark): media.flush(upTo: mark)
            }
        }
        media.losePower(&random)
        return media
    }
}
