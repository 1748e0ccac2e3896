package decoder

import (
	"fmt"

	"github.com/outboxstream/streamer/internal/pgname"
	"github.com/outboxstream/streamer/replication"
)

// Content is the name of the only column of a message, as ColumnName and
// Columns know it: what was given to pg_logical_emit_message.
const Content = "content"

// Loose is what a stream had of messages that belong to no transaction.
type Loose struct {
	Prefix string
	Count  int64
	Last   replication.LSN // where the last one is in the WAL
}

// transactional is the flag of a message that belongs to a transaction.
const transactional = 1

// message reads what pg_logical_emit_message has written. Messages with a prefix
// of no mapping are ignored. One that belongs to no transaction has no place in
// the order of commits: it is counted as loose.
func (d *Decoder) message(c *cursor) (Kind, error) {
	flags := c.uint8()
	at := replication.LSN(c.uint64())
	prefix := c.text()
	content := c.take(int(int32(c.uint32())))
	if c.short {
		return Other, errShort("logical decoding")
	}
	m := d.messages[string(prefix)]
	switch {
	case m == nil:
		return Other, nil
	case flags&transactional == 0:
		d.loose.Prefix, d.loose.Last = m.table.mapping.Messages, at
		d.loose.Count++
		return Other, nil
	case !d.inTransaction:
		return Other, fmt.Errorf("message with prefix %q at %s outside a transaction", prefix, at)
	}
	d.event.Position.Ordinal++
	d.row, d.event.Names = m.table, m.names
	m.rows++
	if d.charset != nil {
		d.converted = d.converted[:0]
		content = d.convert(content)
	}
	m.table.values[0] = value{typeOID: oidText, bytes: content}
	return Row, d.fill()
}

// Loose returns what has come of messages that belong to no transaction since
// the last call.
func (d *Decoder) Loose() Loose {
	l := d.loose
	d.loose = Loose{}
	return l
}

// NamesOfMessages returns the names under which the events of messages with this
// prefix are known.
func NamesOfMessages(prefix string) Names {
	return Names{Table: []byte(prefix), Name: pgname.OfMessages(prefix)}
}
