package decoder

import (
	"fmt"

	"github.com/outboxstream/streamer/internal/pgname"
	"github.com/outboxstream/streamer/replication"
)

// Attribute names a column of the outbox table by its meaning.
type Attribute int

// The attributes to which a column can be mapped. The first four are the core
// of an outbox row.
const (
	ID Attribute = iota
	AggregateType
	AggregateID
	Type
	Payload
	Time
	Subject
	Source
	DataSchema
	DataContentType
	TraceParent
	TraceState
	CorrelationID
	CausationID
	PartitionKey
	Topic
	attributeCount
)

var attributeNames = [attributeCount]string{
	"id", "aggregate_type", "aggregate_id", "type", "payload", "time", "subject", "source", "dataschema",
	"datacontenttype", "traceparent", "tracestate", "correlationid", "causationid", "partition_key", "topic",
}

// String is the attribute's name under outbox.columns.
func (a Attribute) String() string { return attributeNames[a] }

// Attributes lists all attributes in their order.
func Attributes() []Attribute {
	all := make([]Attribute, attributeCount)
	for i := range all {
		all[i] = Attribute(i)
	}
	return all
}

// DataKind is the kind of a payload, by the type of its column.
type DataKind uint8

const (
	// Text is any other column.
	Text DataKind = iota
	// JSON is a json or jsonb column: PostgreSQL vouches for its syntax.
	JSON
	// Bytes is a bytea column.
	Bytes
	// XML is an xml column: PostgreSQL vouches that it is well-formed.
	XML
)

// ExtensionKind is the CloudEvents type of an extension's value.
type ExtensionKind uint8

const (
	// String is every type that has no closer match.
	String ExtensionKind = iota
	// Integer is a smallint or integer column; a bigint does not fit
	// CloudEvents' 32 bits and is a String.
	Integer
	// Boolean is a boolean column.
	Boolean
)

// Extension is the value of a column that is mapped to a CloudEvents extension
// attribute, in its canonical string form. A nil Value means NULL: the
// attribute is absent.
type Extension struct {
	Name  string
	Value []byte
	Kind  ExtensionKind
}

// Header is the value of a column that becomes a record header of its own.
type Header struct {
	Value []byte // nil means NULL
	// Bare is a number or a boolean, which JSON writes without quotes.
	Bare bool
}

// Names are the names of a row's table.
type Names struct {
	Schema []byte
	Table  []byte // with the schema, as in public.outbox
	Name   string // as in outbox.table
}

// NamesOf returns the names of a table.
func NamesOf(schema, table string) Names {
	return Names{[]byte(schema), []byte(schema + "." + table), pgname.Table{Schema: schema, Name: table}.String()}
}

// Event is one outbox row, or one message. Its byte slices are views that are valid until the
// next message is decoded. nil means that the column is not mapped, NULL or
// empty.
type Event struct {
	// Table is the index of the mapping of the row's table, and Names are the
	// table's own.
	Table      int
	Names      Names
	Position   replication.Position
	CommitTime int64 // microseconds since the Unix epoch

	// Time is the row's own time, or the commit time if it has none, in
	// microseconds since the Unix epoch.
	Time int64

	// Data is the payload as PostgreSQL has it. HasData is false for NULL.
	Data     []byte
	HasData  bool
	DataKind DataKind

	// Extensions are sorted by name, and the set is the same for all rows of a
	// table. Those of a message are what it has, in its order.
	Extensions []Extension

	// Headers are in the order of Mapping.Headers. Messages have none.
	Headers []Header

	// SnapshotKey is the row's place in the order in which the table was read, nil
	// for rows from the stream. The decoder does not set it.
	SnapshotKey []byte

	attributes [attributeCount][]byte
}

// Attribute is the value of a text attribute, or nil. Payload and Time have
// separate fields.
func (e *Event) Attribute(a Attribute) []byte { return e.attributes[a] }

// SetAttribute is for callers that build events themselves: previews and tests.
func (e *Event) SetAttribute(a Attribute, value []byte) { e.attributes[a] = value }

// PoisonError reports a row that cannot become an event, however often it is
// read.
type PoisonError struct {
	Position replication.Position
	EventID  string // if known
	Reason   string // what is wrong and the remedy; holds no row data
}

func (e *PoisonError) Error() string {
	id := "with unknown id"
	if e.EventID != "" {
		id = fmt.Sprintf("%q", e.EventID)
	}
	return fmt.Sprintf("outbox row %s at %s: %s", id, e.Position, e.Reason)
}
