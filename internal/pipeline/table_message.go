package pipeline

import (
	"encoding/binary"
	"time"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/replication"
)

// tableMessages makes rows that were read from the table look to a decoder like
// rows from the WAL.
type tableMessages struct {
	mapping decoder.Mapping
	decoder *decoder.Decoder
	message []byte
}

func newTableMessages(m decoder.Mapping) tableMessages {
	return tableMessages{mapping: m, decoder: decoder.New(m)}
}

// describe gives the decoder what a server sends before the first row: the
// beginning of a transaction, and the table.
func (t *tableMessages) describe(commit replication.LSN, at time.Time, columns []string, types []uint32) error {
	begin := binary.BigEndian.AppendUint64([]byte{'B'}, uint64(commit))
	begin = binary.BigEndian.AppendUint64(begin, uint64(at.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Microseconds()))
	if _, err := t.decoder.Decode(binary.BigEndian.AppendUint32(begin, 0)); err != nil {
		return err
	}
	relation := binary.BigEndian.AppendUint32([]byte{'R'}, t.mapping.RelationID)
	relation = append(append(relation, t.mapping.Schema+"\x00"+t.mapping.Table+"\x00"...), 'd')
	relation = binary.BigEndian.AppendUint16(relation, uint16(len(columns)))
	for i, name := range columns {
		relation = append(append(relation, 0), name+"\x00"...)
		relation = binary.BigEndian.AppendUint32(relation, types[i])
		relation = binary.BigEndian.AppendUint32(relation, ^uint32(0)) // no type modifier
	}
	_, err := t.decoder.Decode(relation)
	return err
}

// row gives the decoder a row: its values as text, nil for NULL.
func (t *tableMessages) row(values [][]byte) error {
	m := binary.BigEndian.AppendUint32(append(t.message[:0], 'I'), t.mapping.RelationID)
	m = binary.BigEndian.AppendUint16(append(m, 'N'), uint16(len(values)))
	for _, value := range values {
		if value == nil {
			m = append(m, 'n')
			continue
		}
		m = append(binary.BigEndian.AppendUint32(append(m, 't'), uint32(len(value))), value...)
	}
	t.message = m
	_, err := t.decoder.Decode(m)
	return err
}
