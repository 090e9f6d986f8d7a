import Base

/// The rules of a store as plain data: rows in the order of their keys, and the revision. No time, no failures, no durability.
struct MetaTable {
    private(set) var rows: [MetaEntry] = []
    private(set) var revision = MetaRevision.none

    func read(_ keys: [MetaKey]) -> MetaSnapshot { MetaSnapshot(revision, keys.map { find($0).map { rows[$0].value } }) }

    func list(_ range: MetaKeyRange, limit: Int) -> MetaPage {
        var page = MetaPage(revision)
        for row in rows[place(of: range.first)...] {
            guard row.key < range.end, page.append(row, limit: limit) else { break }
        }
        return page
    }

    mutating func commit(_ transaction: MetaTransaction) -> MetaOutcome {
        for condition in transaction.conditions {
            let found = find(condition.key).map { rows[$0].value.revision } ?? .none
            if found != condition.revision { return .conflict(condition.key) }
        }
        if transaction.changes.isEmpty { return .committed(revision) }
        revision.number += 1
        for change in transaction.changes { apply(change) }
        return .committed(revision)
    }

    private mutating func apply(_ change: MetaChange) {
        let place = place(of: change.key)
        let isThere = place < rows.count && rows[place].key == change.key
        switch change {
        case .put(let key, let bytes):
            let row = MetaEntry(key, MetaValue(bytes, revision))
            if isThere { rows[place] = row } else { rows.insert(row, at: place) }
        case .delete:
            if isThere { rows.remove(at: place) }
        }
    }

    private func find(_ key: MetaKey) -> Int? {
        let place = place(of: key)
        return place < rows.count && rows[place].key == key ? place : nil
    }

    /// Of the first row that is not before the key.
    private func place(of key: MetaKey) -> Int {
        var low = 0
        var high = rows.count
        while low < high {
            let middle = (low + high) / 2
            if rows[middle].key < key { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
