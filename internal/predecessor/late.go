package predecessor

import (
	"context"

	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// Late is an event that is in a topic twice: the former publisher's record
// arrived when the streamer had published the event already.
type Late struct {
	ID        string `json:"id"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"` // of the former publisher's record
}

// FindLate looks for such events. ends are the offsets before which everything of
// the former publisher was known when the streamer began; nil: not known.
func FindLate(ctx context.Context, c *kafka.Client, l router.ForeignLog, ends map[string][]int64) ([]Late, error) {
	if ends != nil {
		since := false // something has come
		err := router.ForeignLog{Topics: ends}.Scan(ctx, c, func(_ kafka.Log, r *kafka.LogRecord) {
			_, foreign := router.ReadForeign(r.Headers, l.Header)
			since = since || foreign
		})
		if err != nil || !since {
			return nil, err
		}
	}
	foreign, err := l.Read(ctx, c)
	if err != nil || foreign.Events() == 0 {
		return nil, err
	}
	twice := map[router.Digest]struct{}{}
	err = l.Scan(ctx, c, func(_ kafka.Log, r *kafka.LogRecord) {
		if id, source := router.ReadOwn(r); id != nil && (foreign.Published(id, nil) || foreign.Published(id, source)) {
			twice[router.DigestOf(id, nil)] = struct{}{}
		}
	})
	if err != nil || len(twice) == 0 {
		return nil, err
	}
	var late []Late
	err = l.Scan(ctx, c, func(log kafka.Log, r *kafka.LogRecord) {
		if e, ok := router.ReadForeign(r.Headers, l.Header); ok {
			if _, found := twice[router.DigestOf(e.ID, nil)]; found {
				late = append(late, Late{string(e.ID), log.Topic, log.Partition, r.Offset})
			}
		}
	})
	return late, err
}
