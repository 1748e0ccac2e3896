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
	for i, name := range d.targets {
		if seen[name] {
			continue
		}
		seen[name] = true
		v := d.values[i]
		columns = append(columns, Column{Name: name, TypeOID: v.typeOID, Binary: v.binary, Null: v.null, Bytes: v.bytes})
	}
	return columns
}

// Raw is the value of a mapped column of the last row as the server sent it,
// whether or not the row could become an event. nil is NULL, or a column that is
// not mapped. It is a view, valid until the next message is decoded.
func (d *Decoder) Raw(column string) []byte {
	for i, name := range d.targets {
		if name == column {
			return d.values[i].bytes
		}
	}
	return nil
}

// Restore builds the event of a row from its columns, as Decode would have. The
// error is a *PoisonError. Missing columns are NULL.
func (d *Decoder) Restore(at replication.Position, commitTime int64, columns []Column) (*Event, error) {
	d.event.Position, d.event.CommitTime = at, commitTime
	for i, name := range d.targets {
		d.values[i] = value{null: true}
		for _, c := range columns {
			if c.Name == name {
				d.values[i] = value{typeOID: c.TypeOID, binary: c.Binary, null: c.Null, bytes: c.Bytes}
			}
		}
	}
	err := d.fill()
	return &d.event, err
}
