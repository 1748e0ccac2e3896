package projection

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/examples/patterns/service"
)

//go:embed statement.sql
var table string

// Project keeps a read model: under a name by which the inbox remembers what is in
// it, in a schema, from a topic.
func Project(ctx context.Context, s *service.Service, name, schema, topic string) error {
	in := pgx.Identifier{schema}.Sanitize()
	_, err := s.Pool.Exec(ctx, fmt.Sprintf("create schema if not exists %s; set search_path to %s; %s; reset search_path", in, in, table))
	if err != nil {
		return fmt.Errorf("create the read model: %w", err)
	}
	fold := fmt.Sprintf(`insert into %s.statement as s values ($1, 1, $2, $3, $4, md5($5))
		on conflict (customer) do update set
			events = s.events + 1, spent = s.spent + excluded.spent, paid = s.paid + excluded.paid,
			latest = (s.latest || excluded.latest)[greatest(1, cardinality(s.latest || excluded.latest) - 4):],
			digest = md5(s.digest || $5)`, in)
	return s.Consume(ctx, consume.Config{Name: name, Topics: []string{topic}}, func(ctx context.Context, tx pgx.Tx, e event.Event) error {
		var m Movement
		if err := e.DataAs(&m); err != nil {
			return consume.Unhandleable(fmt.Errorf("read event %s: %w", e.ID(), err))
		}
		spent, paid, latest := int64(0), m.Amount, []string{}
		if e.Type() == Bought {
			spent, paid, latest = m.Amount, 0, []string{m.Item}
		}
		_, err := tx.Exec(ctx, fold, e.Subject(), spent, paid, latest, e.ID())
		return err
	})
}
