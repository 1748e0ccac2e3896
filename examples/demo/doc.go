// Command demo shows the streamer at work on real servers: it starts a
// PostgreSQL and a Kafka of its own, opens a little shop that writes to an
// outbox, runs the streamer beside it, kills it half way, and audits at the end
// what arrived in Kafka against what the shop committed.
//
//	make demo
//
// It exits with 0 if the audit finds nothing wrong, and leaves nothing behind.
//
// Servers: PostgreSQL as installed, else downloaded once into the cache folder
// of the user. Kafka as given in STREAMER_DEMO_BROKERS or
// STREAMER_TEST_KAFKA_BROKERS, else Apache Kafka if this machine has Java and
// Maven, or Docker, else a fake inside the demo. Everything but a given Kafka
// listens on 127.0.0.1 only.
package main
