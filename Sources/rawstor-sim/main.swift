import Arguments
import Base

// Parses the command line and runs the seeds. Everything else is in module Cluster.

Limits.check()
syntax.runProgram(run)
