// Package verify compares an outbox with the topics it was published to. It
// knows neither servers nor files of configuration: rows and records are handed
// in, findings come out.
//
//	rows ──▶ ┌────────────┐
//	         │ Comparison │──▶ findings, counts
//	records ▶└────────────┘
//
// Everything that comes in is reduced to some 80 bytes, put into one of many
// buckets by its event ID, and kept in a temporary file when there is much of
// it. At the end one bucket after the other is judged in memory. So memory
// depends on the size of a bucket and not on the number of events.
//
// What a row should look like in Kafka is worked out here, from the
// configuration and docs/wire-format.md, not by the encoder that published it:
// a mistake made there would otherwise be made twice.
package verify
