package router

import (
	"slices"
	"time"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/router/kafka"
)

// Preview shows the record that the Producer would make of an event. The same
// encoder encodes it into a batch that is never sent. partitions returns the
// partition count of a topic. If it returns an error, the partition stays unset,
// unless Kafka can never have the topic. An error of Preview is a *PoisonError.
func (r *Router) Preview(e *decoder.Event, partitions func(topic string) (int, error)) (Rendering, error) {
	d, err := r.Route(e)
	if err != nil {
		return Rendering{}, poison(e, PoisonRoute, err)
	}
	if err := r.fits(e); err != nil {
		return Rendering{}, err
	}
	b := newBatch()
	if err := newEncoder(r).encode(b, e, &d); err != nil {
		return Rendering{}, poison(e, PoisonEvent, err)
	}
	record := b.record(0)
	at := time.UnixMilli(b.baseTime).Add(record.TimestampDelta)
	rendering := render(string(d.Topic), at, record.Key, record.Value, record.Headers)
	rendering.Mode = d.Mode
	count, err := partitions(rendering.Topic)
	if kafka.Impossible(err) {
		return Rendering{}, poison(e, PoisonRoute, err)
	}
	if err == nil && count > 0 {
		id := kafka.NewPartitioner(r.rules.Partitioner, rendering.Topic).Of(record.Key, count)
		rendering.Partition = &id
	}
	return rendering, nil
}

// Topics returns the topics to which the rules can lead: the known names, and
// the prefixes of all other names. A topic that a row names itself is not
// included.
func (r *Router) Topics() (known, prefixes []string) {
	for _, table := range r.tables {
		for i := range table.routes {
			t := &table.routes[i].topic
			if name, ok := t.constant(); ok {
				known = append(known, name)
			} else if len(t.parts) > 0 {
				prefixes = append(prefixes, t.parts[0].literal)
			}
		}
	}
	slices.Sort(known)
	slices.Sort(prefixes)
	return slices.Compact(known), slices.Compact(prefixes)
}
