// Package languages tests the programs of examples/inbox on real servers:
// PostgreSQL, Apache Kafka, and the streamer itself. What judges them is SQL, and
// what is in Kafka. The package contains only tests.
package languages
