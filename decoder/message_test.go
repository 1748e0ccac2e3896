package decoder

import (
	"encoding/binary"
	"math"
	"time"
)

// Messages as the server would send them, built by hand.

// OIDs of types that need no special treatment in the decoder.
const (
	oidFloat8 = 701
	oidDate   = 1082
)

type testColumn struct {
	name string
	oid  uint32
}

// unchanged is the value that pgoutput sends for an unchanged TOASTed column.
type unchanged struct{}

func beginMessage(commit uint64, at time.Time) []byte {
	m := binary.BigEndian.AppendUint64([]byte{'B'}, commit)
	m = binary.BigEndian.AppendUint64(m, uint64(at.UnixMicro()-epoch2000))
	return binary.BigEndian.AppendUint32(m, 4711)
}

func commitMessage(start, end uint64) []byte {
	m := binary.BigEndian.AppendUint64([]byte{'C', 0}, start)
	m = binary.BigEndian.AppendUint64(m, end)
	return binary.BigEndian.AppendUint64(m, 0)
}

func relationMessage(id uint32, schema, table string, columns ...testColumn) []byte {
	m := binary.BigEndian.AppendUint32([]byte{'R'}, id)
	m = append(append(m, schema...), 0)
	m = append(append(m, table...), 0, 'd')
	m = binary.BigEndian.AppendUint16(m, uint16(len(columns)))
	for _, c := range columns {
		m = append(append(append(m, 0), c.name...), 0)
		m = binary.BigEndian.AppendUint32(m, c.oid)
		m = binary.BigEndian.AppendUint32(m, math.MaxUint32)
	}
	return m
}

func typeMessage(id uint32, schema, name string) []byte {
	m := binary.BigEndian.AppendUint32([]byte{'Y'}, id)
	return append(append(append(append(m, schema...), 0), name...), 0)
}

// insertMessage takes nil for NULL, a string for text and []byte for binary
// format.
func insertMessage(id uint32, values ...any) []byte {
	m := append(binary.BigEndian.AppendUint32([]byte{'I'}, id), 'N')
	m = binary.BigEndian.AppendUint16(m, uint16(len(values)))
	for _, value := range values {
		switch v := value.(type) {
		case nil:
			m = append(m, 'n')
		case unchanged:
			m = append(m, 'u')
		case string:
			m = binary.BigEndian.AppendUint32(append(m, 't'), uint32(len(v)))
			m = append(m, v...)
		case []byte:
			m = binary.BigEndian.AppendUint32(append(m, 'b'), uint32(len(v)))
			m = append(m, v...)
		}
	}
	return m
}

const outboxID = 16401

// outboxColumns are the columns of the hand-made outbox, mapped and unmapped.
var outboxColumns = []testColumn{
	{"id", oidUUID},
	{"unmapped", oidNumeric},
	{"aggregatetype", oidVarchar},
	{"aggregateid", oidText},
	{"type", oidText},
	{"payload", oidJSONB},
	{"created_at", oidTimestamptz},
	{"tenant", oidInt4},
}

func outboxMapping() Mapping {
	return Mapping{
		Schema: "public", Table: "outbox",
		Columns: map[Attribute]string{
			ID: "id", AggregateType: "aggregatetype", AggregateID: "aggregateid", Type: "type",
			Payload: "payload", Time: "created_at",
		},
		Extensions: map[string]string{"tenantid": "tenant"},
	}
}

func outboxRelation() []byte { return relationMessage(outboxID, "public", "outbox", outboxColumns...) }

const rowUUID = "0190c6d5-3f2a-7cde-8f00-0123456789ab"

// outboxRow is a row in text format, with some of its values replaced.
func outboxRow(replace map[string]any) []byte {
	values := []any{rowUUID, "1.50", "order", "42", "OrderPlaced", `{"total": 1.10}`, "2024-01-02 03:04:05.678901+00", "7"}
	for i, c := range outboxColumns {
		if v, ok := replace[c.name]; ok {
			values[i] = v
		}
	}
	return insertMessage(outboxID, values...)
}

var commitTime = time.Date(2024, 5, 6, 7, 8, 9, 123456000, time.UTC)

// inTransaction returns a decoder that has read these messages in an open
// transaction that will commit at 0/64.
func inTransaction(m Mapping, messages ...[]byte) (*Decoder, error) {
	d := New(m)
	for _, message := range append([][]byte{beginMessage(100, commitTime)}, messages...) {
		if _, err := d.Decode(message); err != nil {
			return d, err
		}
	}
	return d, nil
}
