import Base
import PartStore
import Testing

@testable import Cluster

/// What the simulator damages.
@Suite struct DamageTests {
    /// A store refuses to start with a log that has lost what was durable: what rots there ends a run, and says nothing of the store. By
    /// the layout that each size of disk really has, which is not the same share of small ones and of large ones.
    @Test func damageMeetsDataAndNeverTheLog() throws {
        for seed in UInt64(1)...60 {
            let run = SingleRun(seed: seed)
            let geometry = try Geometry(diskBytes: run.options.diskBytes)
            let mayDamage = { (block: UInt64) in
                run.disk.mayDamage(block * UInt64(Block.bytes)..<(block + 1) * UInt64(Block.bytes))
            }
            let logEnd = (geometry.halfStart(1) + geometry.halfBytes) / UInt64(Block.bytes)
            #expect(!(0..<logEnd).contains(where: mayDamage), "a disk of \(run.options.diskBytes) bytes")
            #expect(mayDamage(logEnd), "a disk of \(run.options.diskBytes) bytes")
            run.universe.end()
        }
    }
}
