// Package e2e runs the examples on real servers, kills their processes and the
// streamers at random moments, and then looks whether what each example promises is
// so. What looks shares nothing with the services: it is plain SQL, and a client of
// Kafka that knows neither package consume nor CloudEvents. The package contains
// only tests.
package e2e
