// Package e2e tests package consume on real servers: PostgreSQL, Apache Kafka,
// and the streamer itself. It is a module of its own, so that those who import
// package consume need nothing of the streamer. The package contains only tests.
package e2e
