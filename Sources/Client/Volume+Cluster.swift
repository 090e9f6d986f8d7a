import Base
import Environment
import VolumeEngine
import Wire

// A volume with several OSTs: what the MDT is asked on behalf of the engine.

extension Volume {
    func exclude(_ peer: Int) { unreachable("a volume with one OST excludes nobody") }
    func refreshMap() { unreachable("a volume with one OST has no map") }
}
