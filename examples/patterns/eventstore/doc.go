// Package eventstore keeps accounts as streams of events, in a table that is the
// outbox at the same time.
//
// The only truth about an account is its events. To act on it, a teller reads them,
// folds them into the state, decides, and appends one more. Two tellers may have read
// the same state: then both append the same version, the table's unique key lets one
// of them in, and the other one reads and decides again. That is optimistic
// concurrency, and it needs no lock.
//
// There is no second table to write to. The streamer's configuration maps the columns
// of the event store to those of an outbox. An event is in Kafka exactly if it is in
// the store. And as the second of two versions can only be written after the first is
// committed, the order of the commits, which is the order in Kafka, is that of the
// versions.
//
// The invariant: the versions of a stream have no gap; Kafka has the same events, in
// the order of their versions; and an account that is rebuilt from Kafka is the one
// that the table says.
package eventstore
