/// The help of a program and of each verb, made from its syntax so that it cannot be out of date.
extension CommandSyntax {
    static let width = 100

    public var help: String {
        var text = "\(program): \(summary)\n\n"
        let lines = verbs.map { ($0.name + usage(of: $0), $0.summary) }
        text += table(lines, title: "Commands")
        text += "\n'\(program) COMMAND --help' explains one, with examples; '\(program) --version' tells the version.\n\n"
        text += examples(verbs.compactMap(\.examples.first))
        return text + exitHelp
    }

    public func help(for verb: Verb) -> String {
        var text = "\(spelled(verb))\(usage(of: verb))\n\n\(wrapped(verb.summary, indent: 0))\n"
        if !verb.positionals.isEmpty { text += "\n" + table(verb.positionals.map { ($0.name, $0.help) }, title: "Arguments") }
        let options = verb.options.map { ("--\($0.name)" + value(of: $0), $0.help + notes(on: $0)) }
        text += "\n" + table(options + [("--help", "Prints this.")], title: "Options")
        for note in verb.notes { text += "\n\(wrapped(note, indent: 0))\n" }
        return text + "\n" + examples(verb.examples) + exitHelp
    }

    /// The first words of verbs of two words.
    var nouns: [String] {
        verbs.reduce(into: []) { nouns, verb in
            let words = verb.name.split(separator: " ")
            if words.count > 1, !nouns.contains(String(words[0])) { nouns.append(String(words[0])) }
        }
    }

    /// The verbs below a noun; nil where there are none.
    func help(forNoun noun: String) -> String? {
        guard nouns.contains(noun) else { return nil }
        let below = verbs.filter { $0.name.hasPrefix(noun + " ") }
        var text = table(below.map { ($0.name + usage(of: $0), $0.summary) }, title: "Commands")
        text += "\n'\(program) COMMAND --help' explains one, with examples.\n\n"
        return text + examples(below.compactMap(\.examples.first)) + exitHelp
    }

    private func examples(_ examples: [Example]) -> String {
        if examples.isEmpty { return "" }
        return examples.reduce("Examples:\n") { $0 + "  # \($1.says)\n  \($1.command)\n" } + "\n"
    }

    /// As it is typed: the only verb of a program may have no name.
    func spelled(_ verb: Verb) -> String { verb.name.isEmpty ? program : "\(program) \(verb.name)" }

    private func value(of option: Option) -> String {
        guard let value = option.value else { return "" }
        return option.isValueOptional ? "[=\(value)]" : " \(value)"
    }

    private func notes(on option: Option) -> String {
        (option.isRepeatable ? " May be given several times." : "") + (option.isRequired ? " Required." : "")
    }

    private func usage(of verb: Verb) -> String {
        verb.positionals.map { $0.isOptional ? " [\($0.name)]" : " \($0.name)" }.joined() + (verb.options.isEmpty ? "" : " [OPTIONS]")
    }

    private var exitHelp: String { table(exitCodes.map { ("\($0.code)", $0.means) }, title: "Exit codes") }

    private func table(_ rows: [(String, String)], title: String) -> String {
        let column = min(34, rows.map(\.0.count).max() ?? 0) + 4
        var text = "\(title):\n"
        for (left, right) in rows {
            var line = "  " + left
            if line.count + 2 > column {
                text += line + "\n"
                line = ""
            }
            line += String(repeating: " ", count: column - line.count)
            text += line + wrapped(right, indent: column) + "\n"
        }
        return text
    }

    /// Broken at spaces; every line but the first begins with `indent` spaces.
    private func wrapped(_ text: String, indent: Int) -> String {
        var lines: [String] = [""]
        for word in text.split(separator: " ") {
            let last = lines.count - 1
            if lines[last].isEmpty {
                lines[last] = String(word)
            } else if lines[last].count + 1 + word.count + indent <= CommandSyntax.width {
                lines[last] += " " + word
            } else {
                lines.append(String(word))
            }
        }
        return lines.joined(separator: "\n" + String(repeating: " ", count: indent))
    }
}
