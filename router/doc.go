// Package router decides where an event goes and delivers it. Templates give
// topic and key. The encoder writes a CloudEvent into a batch of its partition.
// The Producer sends batches in order, idempotently, until the broker has
// acknowledged them.
//
// It writes with sarama's connections, and not with its AsyncProducer, which would
// deliver the later records of a key after a rejected batch. Here every partition
// is, at any moment, a prefix of the stream routed to it. Package router/kafka
// connects, fences and reads.
//
// It must not know PostgreSQL or checkpoints. Start at [Producer.Append], which every
// event goes through.
//
// The Go API of this package may change between minor versions.
package router
