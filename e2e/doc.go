// Package e2e holds the tests that run the built streamer binary against real
// PostgreSQL and real Apache Kafka. They judge it from outside: by the rows
// that were committed and the records that arrived.
package e2e
