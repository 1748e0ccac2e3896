// Package kafka is the streamer's side of the conversation with Kafka:
//   - connecting with TLS and SASL
//   - topics and the permissions on them
//   - the transactional id that fences predecessors
//   - reading, from spans of offsets to whole topics
//
// It knows records but not their content. Events, outbox rows and streams
// belong to package router, which writes. Only this package and package router
// may import sarama.
//
// Start at [Client], which queries, and at [Owner], which may write.
//
// The Go API of this package may change between minor versions.
package kafka
