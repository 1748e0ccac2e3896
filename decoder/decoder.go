package decoder

import (
	"fmt"

	"github.com/outboxstream/streamer/replication"
)

// Kind is the meaning of a message.
type Kind uint8

const (
	// Other messages need nothing from the caller.
	Other Kind = iota
	// Begin opens a transaction: Event().Position has its commit LSN.
	Begin
	// Row is an insert into the outbox table, or a message: see Event.
	Row
	// Commit closes the transaction: see CommitEnd.
	Commit
)

// Decoder reads the messages of one replication session. It is not for
// concurrent use. A new session needs a new Decoder, because the server
// describes every relation again.
type Decoder struct {
	tables  []*table
	charset *replication.Charset

	relations map[uint32]*relation
	messages  map[string]*relation // by prefix
	baseTypes map[uint32]uint32    // of domains, by OID
	row       *table               // of the last row
	pointed   value                // see source
	checked   []byte               // see resolve
	scratch   []byte
	converted []byte // text of the last row that was not in UTF-8

	event         Event
	inTransaction bool
	commitEnd     replication.LSN
	ignored       int64
	loose         Loose
}

// New returns a decoder for a new session. There is one mapping for each outbox
// table; an event says to which of them it belongs.
func New(mappings ...Mapping) *Decoder {
	d := &Decoder{relations: map[uint32]*relation{}, messages: map[string]*relation{}, baseTypes: map[uint32]uint32{}}
	for i, m := range mappings {
		d.charset = m.Charset
		t := newTable(i, m)
		d.tables = append(d.tables, t)
		if m.Messages != "" {
			d.messages[m.Messages] = &relation{table: t, names: NamesOfMessages(m.Messages)}
		}
	}
	d.row = d.tables[0]
	return d
}

// Event is the row of the last message. Its contents change with the next
// message.
func (d *Decoder) Event() *Event { return &d.event }

// CommitEnd is the LSN after the commit record of the last transaction: the
// only LSN of a transaction that may be confirmed (R1).
func (d *Decoder) CommitEnd() replication.LSN { return d.commitEnd }

// InTransaction reports whether a Begin is waiting for its Commit.
func (d *Decoder) InTransaction() bool { return d.inTransaction }

// Ignored counts the rows of other tables, updates and deletes so far.
func (d *Decoder) Ignored() int64 { return d.ignored }

// Rows calls visit for each outbox table, and each prefix of messages, with the
// number of its rows that were decoded since the last call, unless there were
// none. The name is as in outbox.table, or pgname.OfMessages.
func (d *Decoder) Rows(visit func(table string, rows int64)) {
	for _, r := range d.relations {
		r.count(visit)
	}
	for _, m := range d.messages {
		m.count(visit)
	}
}

// Decode reads one message. A *PoisonError concerns only its row, and decoding
// may continue after it. Any other error ends the session.
func (d *Decoder) Decode(message []byte) (Kind, error) {
	c := cursor{rest: message}
	switch kind := c.uint8(); kind {
	case 'I':
		return d.insert(&c)
	case 'B':
		return Begin, d.begin(&c)
	case 'C':
		return Commit, d.commit(&c)
	case 'R':
		return Other, d.relationMessage(&c)
	case 'Y':
		return Other, d.typeMessage(&c)
	case 'U', 'D', 'T':
		d.ignored++
		return Other, nil
	case 'M':
		return d.message(&c)
	case 'O':
		return Other, nil
	default:
		// Skipping messages that the decoder does not understand would lose rows
		// (P-31).
		return Other, fmt.Errorf("unknown pgoutput message %q in the transaction committing at %s", kind, d.event.Position.Commit)
	}
}

func (d *Decoder) begin(c *cursor) error {
	d.event.Position = replication.Position{Commit: replication.LSN(c.uint64())}
	d.event.CommitTime = unixMicro(int64(c.uint64()))
	c.uint32() // transaction ID
	if c.short {
		return errShort("begin")
	}
	if d.inTransaction {
		return fmt.Errorf("transaction committing at %s begins inside another", d.event.Position.Commit)
	}
	d.inTransaction = true
	return nil
}

func (d *Decoder) commit(c *cursor) error {
	c.uint8() // flags, unused
	start := replication.LSN(c.uint64())
	end := replication.LSN(c.uint64())
	c.uint64() // commit time, known from Begin
	if c.short {
		return errShort("commit")
	}
	if !d.inTransaction || start != d.event.Position.Commit || end < start {
		return fmt.Errorf("commit at %s does not match the transaction that began for %s", start, d.event.Position.Commit)
	}
	d.inTransaction = false
	d.commitEnd = end
	return nil
}

// insert reads a row. Rows of other tables are ignored.
func (d *Decoder) insert(c *cursor) (Kind, error) {
	id := c.uint32()
	if c.uint8() != 'N' || c.short {
		return Other, errShort("insert")
	}
	r := d.relations[id]
	switch {
	case r == nil:
		return Other, fmt.Errorf("insert into relation %d, which the server has not described", id)
	case !d.inTransaction:
		return Other, fmt.Errorf("insert into relation %d outside a transaction", id)
	case r.table == nil:
		d.ignored++
		return Other, nil
	}
	d.event.Position.Ordinal++
	d.row, d.event.Names = r.table, r.names
	r.rows++
	if err := d.tuple(c, r); err != nil {
		return Other, err
	}
	return Row, d.fill()
}

// tuple reads the columns into the values of the row's table.
func (d *Decoder) tuple(c *cursor, r *relation) error {
	if count := int(c.uint16()); c.short {
		return errShort("insert")
	} else if count != len(r.columns) {
		return fmt.Errorf("outbox row at %s has %d columns, but its relation has %d", d.event.Position, count, len(r.columns))
	}
	d.converted = d.converted[:0]
	for i := range r.columns {
		column := &r.columns[i]
		v := value{typeOID: column.typeOID}
		switch format := c.uint8(); format {
		case 't', 'b':
			v.binary = format == 'b'
			v.bytes = c.take(int(int32(c.uint32())))
			if d.charset != nil && len(column.targets) > 0 && v.isText() {
				v.bytes = d.convert(v.bytes)
			}
		case 'n':
			v.null = true
		default:
			if c.short {
				return errShort("insert")
			}
			// 'u', an unchanged TOASTed value, cannot be in an insert (P-35).
			return fmt.Errorf("column %q of outbox row at %s has the unknown format %q", column.name, d.event.Position, format)
		}
		for _, target := range column.targets {
			d.row.values[target] = v
		}
	}
	if c.short {
		return errShort("insert")
	}
	return nil
}

// convert returns text in UTF-8. The result is valid until the next row.
func (d *Decoder) convert(text []byte) []byte {
	start := len(d.converted)
	d.converted = d.charset.AppendUTF8(d.converted, text)
	return d.converted[start:len(d.converted):len(d.converted)]
}

func errShort(message string) error {
	return fmt.Errorf("%s message from the server ends too early", message)
}
