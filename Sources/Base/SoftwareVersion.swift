/// Of daemons, tools and library: they are released together. `rawstor.h` says the same in its macros.
public let softwareVersion: StaticString = "0.1.0"
