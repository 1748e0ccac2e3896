// Package kafka is the streamer's side of the conversation with Kafka: connecting
// with TLS and SASL, topics and what may be done with them, the transactional id
// that keeps predecessors out, and reading, from spans of offsets to whole topics.
//
// It knows records, and nothing of what is in them: events, outbox rows and streams
// are the business of package router, which writes. sarama stays between the two.
//
// Start at [Client], which asks, and at [Owner], which may write.
//
// The Go API of this package may change between minor versions.
package kafka
