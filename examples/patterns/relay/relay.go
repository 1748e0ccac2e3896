package relay

import (
	"context"
	"errors"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/examples/patterns/service"
)

// publisher is another broker. Publish returns once the broker has the event for
// good.
type publisher interface {
	publish(ctx context.Context, e event.Event) error
}

// errNever marks events that the other broker will never take.
var errNever = errors.New("the broker does not take it")

// relay hands everything on. The transaction is used by the inbox alone.
func relay(ctx context.Context, s *service.Service, name string, to publisher) error {
	return s.Consume(ctx, consume.Config{Name: name, Topics: []string{Topic}}, func(ctx context.Context, _ pgx.Tx, e event.Event) error {
		err := to.publish(ctx, e)
		if errors.Is(err, errNever) {
			return consume.Unhandleable(err) // its key is parked, the others go on
		}
		return consume.Unavailable(err) // everything waits until the broker is back
	})
}

// nameOf is what an event is known by wherever it goes.
func nameOf(e event.Event) string { return e.Source() + " " + e.ID() }

// attributes are those of the event, each with a prefix.
func attributes(e event.Event, prefix string) map[string]string {
	all := map[string]string{
		prefix + "specversion": e.SpecVersion(), prefix + "id": e.ID(), prefix + "source": e.Source(), prefix + "type": e.Type(),
		prefix + "subject": e.Subject(), prefix + "time": e.Time().Format("2006-01-02T15:04:05.999999Z07:00"),
	}
	for name, value := range e.Extensions() {
		if text, ok := value.(string); ok {
			all[prefix+name] = text
		}
	}
	return all
}
