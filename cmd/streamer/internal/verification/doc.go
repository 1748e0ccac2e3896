// Package verification is the command that compares the outbox table, or a
// recording of it, with what is in Kafka. The comparison itself is in package
// verify, which shares no code with the stream. Start at verification.run, whose
// order of steps keeps rows in flight from being findings.
package verification
