// Package verification is the command that compares the outbox table, or a
// recording of it, with Kafka. The comparison itself is in package verify,
// which shares no code with the stream. Start at verification.run. The order of
// its steps keeps rows in flight from becoming findings.
package verification
