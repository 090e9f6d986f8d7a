/// What a program's command line may say: verbs with positional arguments and options. Declared once; parser and help both read it.
public struct CommandSyntax: Sendable {
    public struct Option: Sendable {
        /// Without the dashes.
        public var name: String
        /// What stands for the value in the help; nil for a switch.
        public var value: String?
        /// A switch that may have a value, behind an equals sign: without that nobody could tell it from what follows.
        public var isValueOptional = false
        public var isRepeatable: Bool
        public var isRequired: Bool
        public var help: String

        public static func flag(_ name: String, _ help: String) -> Option {
            Option(name: name, value: nil, isRepeatable: false, isRequired: false, help: help)
        }

        public static func flag(_ name: String, value: String, _ help: String) -> Option {
            Option(name: name, value: value, isValueOptional: true, isRepeatable: false, isRequired: false, help: help)
        }

        public static func value(
            _ name: String, _ value: String, _ help: String, isRepeatable: Bool = false, isRequired: Bool = false
        ) -> Option {
            Option(name: name, value: value, isRepeatable: isRepeatable, isRequired: isRequired, help: help)
        }
    }

    public struct Positional: Sendable {
        public var name: String
        public var help: String
        public var isOptional: Bool

        public init(_ name: String, _ help: String, isOptional: Bool = false) {
            self.name = name
            self.help = help
            self.isOptional = isOptional
        }
    }

    public struct Example: Sendable {
        public var command: String
        public var says: String

        public init(_ command: String, _ says: String) {
            self.command = command
            self.says = says
        }
    }

    public struct Verb: Sendable {
        /// One or two words: `serve`, `volume create`.
        public var name: String
        public var summary: String
        public var positionals: [Positional]
        public var options: [Option]
        public var examples: [Example]
        /// Paragraphs below the options.
        public var notes: [String]

        public init(
            _ name: String, _ summary: String, positionals: [Positional] = [], options: [Option] = [], examples: [Example] = [],
            notes: [String] = []
        ) {
            self.name = name
            self.summary = summary
            self.positionals = positionals
            self.options = options
            self.examples = examples
            self.notes = notes
        }
    }

    public struct ExitCode: Sendable {
        public var code: Int32
        public var means: String

        public init(_ code: Int32, _ means: String) {
            self.code = code
            self.means = means
        }
    }

    public var program: String
    public var summary: String
    public var verbs: [Verb]
    public var exitCodes: [ExitCode]

    public init(program: String, summary: String, verbs: [Verb], exitCodes: [ExitCode]) {
        self.program = program
        self.summary = summary
        self.verbs = verbs
        self.exitCodes = exitCodes
    }
}
