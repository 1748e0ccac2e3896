// Package faults plays every fault of the fault matrix against the built
// streamer, real PostgreSQL and real Apache Kafka, under load. It judges the
// outcome with an audit of its own, which shares no code with the streamer.
//
// A fault is an entry of a table (see fault_test.go). The default run plays a
// fast part of it. STREAMER_FAULTS=all plays everything. STREAMER_FAULTS may
// also name the faults to play, separated by commas. `make faults` also writes
// the results into docs/reliability.md.
package faults

//go:generate go run ./render
