package router

import (
	"fmt"
	"slices"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/router/wire"
)

// Revival is a dead letter that has become an event again.
type Revival struct {
	Topic  string
	Key    []byte
	record *sarama.Record
	row    PoisonError // without a reason until there is one
	at     int64       // the record's timestamp, in milliseconds since the Unix epoch
}

// Revive turns a dead letter into the record that its row would have become
// under the current routes. It only adds ReplayHeader. maxRecordBytes is the
// limit that Append applies, 0 is none. An error means that the row is still
// poison.
func (r *Router) Revive(d *decoder.Decoder, l *DeadLetter, maxRecordBytes int) (Revival, error) {
	e, err := d.Restore(l.Position, l.CommitTime, append(slices.Clip(l.Columns), l.Payload))
	if err != nil {
		return Revival{}, err
	}
	destination, err := r.Route(e)
	if err != nil {
		return Revival{}, poison(e, PoisonRoute, err)
	}
	if maxRecordBytes > 0 && len(e.Data) > maxRecordBytes {
		return Revival{}, poison(e, PoisonSize, fmt.Errorf("payload of %d bytes is larger than kafka.max_record_bytes (%d): "+
			"raise it together with the topic's max.message.bytes", len(e.Data), maxRecordBytes))
	}
	enc, b := newEncoder(r), newBatch()
	enc.stream = constantHeader(headerKey(wire.StreamHeader), l.StreamID)
	if err := enc.encode(b, e, &destination); err != nil {
		return Revival{}, poison(e, PoisonEvent, err)
	}
	record := b.record(0)
	record.Headers = append(record.Headers, &sarama.RecordHeader{Key: []byte(wire.ReplayHeader), Value: []byte(replayDeadLetter)})
	return Revival{
		Topic: string(destination.Topic), Key: record.Key, record: record, at: b.baseTime,
		row: PoisonError{Position: l.Position, EventID: l.EventID},
	}, nil
}
