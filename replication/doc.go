// Package replication owns the PostgreSQL side: the slot, its identity and its
// stream. It connects, proves that slot, publication and checkpoint belong
// together, hands out the bytes that the pgoutput plugin sends, and confirms
// what has been published.
//
// It knows nothing of CloudEvents or Kafka. Nothing here reconnects: a session
// ends with an error, and the caller starts a new one from its checkpoint. Start at
// [Open].
//
// The Go API of this package may change between minor versions.
package replication
