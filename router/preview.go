package router

import (
	"slices"
	"time"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/router/kafka"
)

// Preview shows the record that the Producer would make of an event: it is
// encoded by the same encoder, into a batch that is never sent. partitions
// tells the partition count of a topic; an error leaves the partition open. An
// error of Preview is a *PoisonError.
func (r *Router) Preview(e *decoder.Event, partitions func(topic string) (int, error)) (Rendering, error) {
	d, err := r.Route(e)
	if err != nil {
		return Rendering{}, poison(e, PoisonRoute, err)
	}
	b := newBatch()
	if err := newEncoder(r).encode(b, e, &d); err != nil {
		return Rendering{}, poison(e, PoisonEvent, err)
	}
	record := b.record(0)
	at := time.UnixMilli(b.baseTime).Add(record.TimestampDelta)
	rendering := render(string(d.Topic), at, record.Key, record.Value, record.Headers)
	if count, err := partitions(rendering.Topic); err == nil && count > 0 {
		id := kafka.NewPartitioner(r.rules.Partitioner, rendering.Topic).Of(record.Key, count)
		rendering.Partition = &id
	}
	return rendering, nil
}

// Topics tells which topics the rules can lead to: those whose names are known,
// and the beginnings of the names of all others. A topic that a row names
// itself is not among them.
func (r *Router) Topics() (known, prefixes []string) {
	for i := range r.routes {
		t := &r.routes[i].topic
		if name, ok := t.constant(); ok {
			known = append(known, name)
		} else if len(t.parts) > 0 {
			prefixes = append(prefixes, t.parts[0].literal)
		}
	}
	slices.Sort(known)
	slices.Sort(prefixes)
	return slices.Compact(known), slices.Compact(prefixes)
}
