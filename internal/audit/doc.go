// Package audit compares the contents of Kafka with what a shop knows it
// committed and rolled back. It proves the streamer's promise, or shows the
// first events that break it, for the demo and for end-to-end tests:
//
//	messages, err := audit.Read(ctx, brokers, "outbox.event.order", "outbox.event.customer")
//	report := audit.Compare(ledger, messages)
//	require.NoError(t, report.Err())
//
// An event that is lost, out of order, or published although it was rolled back
// is an error. A repeated event is not: it is counted, and it must consist of
// the same bytes in the same order.
package audit
