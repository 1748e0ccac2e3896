package decoder

import "github.com/outboxstream/streamer/replication"

// Column is the value of a mapped column as the server sent it, for rows that
// cannot become events.
type Column struct {
	Name    string
	TypeOID uint32 // of the base type if the column's type is a domain
	Binary  bool   // in PostgreSQL's binary format
	Null    bool
	Bytes   []byte // a view, valid until the next message is decoded
}

// Columns are the mapped columns of the last row, whether or not it could
// become an event. A column that is mapped twice is included once.
func (d *Decoder) Columns() []Column {
	var columns []Column
	seen := map[string]bool{}
	for i, name := range d.row.targets {
		if seen[name] {
			continue
		}
		seen[name] = true
		v := d.row.values[i]
		columns = append(columns, Column{Name: name, TypeOID: v.typeOID, Binary: v.binary, Null: v.null, Bytes: v.bytes})
	}
	return columns
}

// Raw is the value of a mapped column of the last row as the server sent it,
// whether or not the row could become an event. nil is NULL, or a column that is
// not mapped. It is a view, valid until the next message is decoded.
func (d *Decoder) Raw(column string) []byte {
	for i, name := range d.row.targets {
		if name == column {
			return d.row.values[i].bytes
		}
	}
	return nil
}

// Restore builds the event of a row from its columns, as Decode would have.
// mapping is the index of its table's, and names are the table's. The error is a
// *PoisonError. Missing columns are NULL.
func (d *Decoder) Restore(mapping int, names Names, at replication.Position, commitTime int64, columns []Column) (*Event, error) {
	d.row, d.event.Names = d.tables[mapping], names
	d.event.Position, d.event.CommitTime = at, commitTime
	for i, name := range d.row.targets {
		d.row.values[i] = value{null: true}
		for _, c := range columns {
			if c.Name == name {
				d.row.values[i] = value{typeOID: c.TypeOID, binary: c.Binary, null: c.Null, bytes: c.Bytes}
			}
		}
	}
	err := d.fill()
	return &d.event, err
}

// Find returns the value of a column, or of a reference such as headers#/id,
// among the columns of a row: its bytes as the server sent them, or the text of
// the JSON value. nil means that there is none.
func Find(reference string, columns []Column) []byte {
	name, p := newTarget(reference)
	for _, c := range columns {
		if c.Name != name {
			continue
		}
		if p == nil {
			return c.Bytes
		}
		v, _, err := p.resolve(&value{typeOID: c.TypeOID, binary: c.Binary, null: c.Null, bytes: c.Bytes}, false, nil, new([]byte))
		if err != nil {
			return nil
		}
		text, _, err := v.appendText(nil)
		if err != nil {
			return nil
		}
		return text
	}
	return nil
}
