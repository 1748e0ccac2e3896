// Package router decides where an event goes and gets it there: templates give
// topic and key, the encoder writes a CloudEvent into a batch of its partition,
// and the Producer sends batches in order, idempotently, until the broker has
// acknowledged them.
//
// It is the only package that knows sarama. sarama brings metadata, leaders,
// connections, TLS, SASL and compression; its AsyncProducer is not used, because
// after a rejected batch it would deliver the later records of the same key.
// Here the log of every partition is, at any moment, a prefix of the stream
// routed to it.
package router
