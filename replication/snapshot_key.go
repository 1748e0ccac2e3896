package replication

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Key is the place of a row in the order in which a table is read: the values
// of the order's columns as PostgreSQL prints them, in the database's encoding.
type Key [][]byte

// Clone returns a copy that shares no memory.
func (k Key) Clone() Key {
	clone := make(Key, len(k))
	for i := range k {
		clone[i] = bytes.Clone(k[i])
	}
	return clone
}

// Order is the order in which a table is read. Its last column is unique, so
// that no two rows have the same key.
type Order struct {
	columns []orderColumn
	charset *Charset
}

// orderColumn is a column of the key.
type orderColumn struct {
	name string
	typ  string // as in a cast
	kind orderKind
	// collate makes the server compare bytes although the column's collation does
	// not.
	collate bool
}

// orderKind is how two values are compared.
type orderKind int

const (
	orderInteger orderKind = iota
	orderTime
	orderBytes
)

// orderKinds are the types by which rows can be ordered. The order of other
// types is approximate (floating point), depends on the server's libraries
// (collations), or is the application's own.
var orderKinds = map[string]orderKind{
	"smallint": orderInteger, "integer": orderInteger, "bigint": orderInteger,
	"timestamp without time zone": orderTime, "timestamp with time zone": orderTime, "date": orderTime,
	"text": orderBytes, "character varying": orderBytes, "uuid": orderBytes,
}

// Columns names the columns of the key.
func (o Order) Columns() []string {
	names := make([]string, len(o.columns))
	for i, c := range o.columns {
		names[i] = c.name
	}
	return names
}

// String describes the order. Another order has another description.
func (o Order) String() string {
	parts := make([]string, len(o.columns))
	for i, c := range o.columns {
		parts[i] = c.expression() + " " + c.typ
	}
	return strings.Join(parts, ", ")
}

// Compare compares two keys of the order as the server does.
func (o Order) Compare(a, b Key) int {
	for i, c := range o.columns {
		if order := c.compare(a[i], b[i]); order != 0 {
			return order
		}
	}
	return 0
}

// Rank returns a number that never falls from one key to the next. Keys of
// different ranks are in the order of their ranks.
func (o Order) Rank(k Key) int64 { return o.columns[0].rank(k[0]) }

func (c orderColumn) compare(a, b []byte) int {
	if c.kind == orderBytes {
		return bytes.Compare(a, b)
	}
	return cmp.Compare(c.rank(a), c.rank(b))
}

// rank is the value itself, or the beginning of a text.
func (c orderColumn) rank(value []byte) int64 {
	switch c.kind {
	case orderInteger:
		n, _ := strconv.ParseInt(string(value), 10, 64) // a number of the server's; Check has seen the key
		return n
	case orderTime:
		at, _ := micro(string(value))
		return at
	default:
		var first [8]byte
		copy(first[:], value)
		var n uint64
		for _, b := range first {
			n = n<<8 | uint64(b)
		}
		return int64(n ^ 1<<63)
	}
}

// Check reports why a key cannot be compared, or nil.
func (o Order) Check(k Key) error {
	if len(k) != len(o.columns) {
		return fmt.Errorf("key of %d values, not of the %d in %s", len(k), len(o.columns), o)
	}
	for i, c := range o.columns {
		var err error
		switch c.kind {
		case orderInteger:
			_, err = strconv.ParseInt(string(k[i]), 10, 64)
		case orderTime:
			_, err = micro(string(k[i]))
		default:
		}
		if err != nil || k[i] == nil {
			return fmt.Errorf("column %q has a value by which rows cannot be ordered", c.name)
		}
	}
	return nil
}

var errNoTime = errors.New("not a time of PostgreSQL's")

// micro reads a timestamp or date as PostgreSQL prints it in ISO style and UTC,
// in microseconds since the Unix epoch.
func micro(text string) (int64, error) {
	switch text {
	case "infinity":
		return math.MaxInt64, nil
	case "-infinity":
		return math.MinInt64, nil
	}
	rest, before := strings.CutSuffix(text, " BC")
	day, clock, _ := strings.Cut(strings.TrimSuffix(rest, "+00"), " ")
	parts := strings.Split(day, "-")
	if len(parts) != 3 {
		return 0, errNoTime
	}
	var date [3]int
	for i, part := range parts {
		var err error
		if date[i], err = strconv.Atoi(part); err != nil {
			return 0, errNoTime
		}
	}
	if before {
		date[0] = 1 - date[0]
	}
	at := time.Date(date[0], time.Month(date[1]), date[2], 0, 0, 0, 0, time.UTC).UnixMicro()
	if clock == "" {
		return at, nil
	}
	midnight, err := time.Parse("15:04:05.999999", clock)
	if err != nil {
		return 0, errNoTime
	}
	return at + int64(midnight.Hour())*int64(time.Hour/time.Microsecond) + int64(midnight.Minute())*int64(time.Minute/time.Microsecond) +
		int64(midnight.Second())*int64(time.Second/time.Microsecond) + int64(midnight.Nanosecond())/int64(time.Microsecond), nil
}

// Append appends a key in the form that checkpoints and records have: a JSON
// array of texts.
func (o Order) Append(b []byte, k Key) []byte {
	b = append(b, '[')
	for i, value := range k {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, o.charset.UTF8(value))
	}
	return append(b, ']')
}

// appendText appends a JSON string. Most keys have nothing to escape.
func appendText(b, text []byte) []byte {
	for _, char := range text {
		if char < ' ' || char == '"' || char == '\\' || char >= utf8.RuneSelf {
			quoted, err := json.Marshal(string(text))
			if err != nil {
				quoted = nil // a string
			}
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

// Parse reads the output of Append.
func (o Order) Parse(text string) (Key, error) {
	var values []string
	if err := json.Unmarshal([]byte(text), &values); err != nil {
		return nil, fmt.Errorf("key %q is not a list of texts", text)
	}
	k := make(Key, len(values))
	for i, value := range values {
		encoded, ok := o.charset.Encode(value)
		if !ok {
			return nil, fmt.Errorf("key %q has characters that the database cannot hold", text)
		}
		k[i] = []byte(encoded)
	}
	return k, o.Check(k)
}

// expression is the column as rows are ordered and compared by it.
func (c orderColumn) expression() string {
	if c.collate {
		return quoteIdentifier(c.name) + ` COLLATE "C"`
	}
	return quoteIdentifier(c.name)
}

// plain lists the columns, to select them.
func (o Order) plain() string { return strings.Join(quoteAll(o.Columns()), ", ") }

// sql lists the columns as rows are ordered by them. suffix follows each.
func (o Order) sql(suffix string) string {
	parts := make([]string, len(o.columns))
	for i, c := range o.columns {
		parts[i] = c.expression() + suffix
	}
	return strings.Join(parts, ", ")
}

// than is the condition that a row's key compares to k as the operator says, in
// UTF-8.
func (o Order) than(operator string, k Key) string {
	values := make([]string, len(k))
	for i, c := range o.columns {
		values[i] = quoteLiteral(string(o.charset.UTF8(k[i]))) + "::" + c.typ
	}
	if len(k) == 1 {
		return o.sql("") + " " + operator + " " + values[0]
	}
	return "(" + o.sql("") + ") " + operator + " (" + strings.Join(values, ", ") + ")"
}

// OrderBy returns an order by columns, each with its type as PostgreSQL prints
// it.
func OrderBy(columns ...[2]string) (Order, error) {
	var o Order
	for _, c := range columns {
		kind, known := orderKinds[c[1]]
		if !known {
			return o, fmt.Errorf("rows cannot be ordered by %s", c[1])
		}
		o.columns = append(o.columns, orderColumn{name: c[0], typ: c[1], kind: kind})
	}
	return o, nil
}
