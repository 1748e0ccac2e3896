// Package consume changes a database once for each CloudEvent in Kafka, in order,
// whatever crashes.
//
// A handler gets an event together with a transaction of its own database. In
// the same transaction, an inbox notes that the event is handled. So either both
// are there or neither is, and an event that comes again changes nothing.
//
//	consumer, err := consume.New(consume.Config{Name: "billing", Group: "billing", Topics: []string{"outbox.event.order"}},
//		consume.PGX(pool, func(ctx context.Context, tx pgx.Tx, e event.Event) error {
//			_, err := tx.Exec(ctx, "insert into invoice …")
//			return err
//		}))
//	…
//	err = saramagroup.Run(ctx, client, consumer) // or franzgroup.Run
//
// The events of a key are handled in order; different keys are handled at the
// same time. An event that cannot be handled is tried again, and then its key is
// parked: the key's later events wait behind it in a table, and all other keys go
// on. If the handler says that what it needs is [Unavailable], nothing is parked.
// Everything waits until it is there again.
//
// The package knows no Kafka client. The adapters saramagroup and franzgroup do.
package consume
