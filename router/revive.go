package router

import (
	"slices"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/pgname"
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
// under the current routes. It only adds ReplayHeader. An error means that the
// row is still poison.
func (r *Router) Revive(d *decoder.Decoder, l *DeadLetter) (Revival, error) {
	table, err := r.rules.table(l.Table)
	if err != nil {
		return Revival{}, err
	}
	rules := r.rules.Tables[table]
	names := decoder.NamesOf(rules.Schema, rules.Table)
	if rules.Messages != "" {
		names = decoder.NamesOfMessages(rules.Messages)
	} else if own, ok := pgname.Parse(l.Table); ok {
		names = decoder.NamesOf(own.Schema, own.Name)
	}
	e, err := d.Restore(table, names, l.Position, l.CommitTime, append(slices.Clip(l.Columns), l.Payload))
	if err != nil {
		return Revival{}, err
	}
	destination, err := r.Route(e)
	if err != nil {
		return Revival{}, poison(e, PoisonRoute, err)
	}
	if err := r.fits(e); err != nil {
		return Revival{}, err
	}
	enc, b := newEncoder(r), newBatch()
	enc.stream = constantHeader(headerKey(wire.StreamHeader), l.StreamID)
	if err := enc.encode(b, e, &destination); err != nil {
		return Revival{}, poison(e, PoisonEvent, err)
	}
	record := b.record(0)
	record.Headers = append(record.Headers, &sarama.RecordHeader{Key: []byte(wire.ReplayHeader), Value: []byte(wire.ReplayDeadLetter)})
	return Revival{
		Topic: string(destination.Topic), Key: record.Key, record: record, at: b.baseTime,
		row: PoisonError{Position: l.Position, EventID: l.EventID},
	}, nil
}
