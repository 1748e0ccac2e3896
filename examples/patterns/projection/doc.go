// Package projection keeps a read model next to the service that owns the data
// (CQRS), and builds a new one beside it without a pause.
//
// A shop writes what its customers buy and pay, with an event for each. The reports
// have a database of their own, with a table that answers one question at once: how
// does each customer stand? [Project] folds the events into it, in order.
//
// When the question changes, the table has to be built again from the first event
// on. Kafka has deleted that one long ago; PostgreSQL's WAL, or the outbox table,
// has not. So `streamer replay` publishes the past once more, into a topic of its
// own. A projector with a new name and a new schema reads that topic to its end and
// then goes on with the live topic. The inbox knows by source and id what the new
// projector has had from the replay, so the seam needs no care: what is in both
// topics is handled once. Meanwhile the old projector goes on, and the shop sells.
//
// The invariant: both tables are the same, to the last byte.
package projection
