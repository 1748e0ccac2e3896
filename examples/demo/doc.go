// Command demo shows the streamer at work on real servers:
//   - It starts its own PostgreSQL and Kafka.
//   - It opens a little shop that writes to an outbox.
//   - It runs the streamer alongside the shop and kills it half way.
//   - At the end it audits what arrived in Kafka against what the shop
//     committed.
//
// Run it with:
//
//	make demo
//
// It exits with 0 if the audit finds nothing wrong, and leaves nothing behind.
//
// PostgreSQL is the installed one, otherwise one that is downloaded once into
// the user's cache folder. Kafka is the cluster given in STREAMER_DEMO_BROKERS
// or STREAMER_TEST_KAFKA_BROKERS. Otherwise it is Apache Kafka if this machine
// has Java and Maven, or Docker, and a fake inside the demo if not. Everything
// but a given Kafka listens on 127.0.0.1 only.
package main
