// Package verify compares an outbox with the topics to which it was published.
// It knows neither servers nor configuration files: rows and records are handed
// in, findings come out.
//
//	rows ──▶ ┌────────────┐
//	         │ Comparison │──▶ findings, counts
//	records ▶└────────────┘
//
// Every row and record is reduced to some 80 bytes and put into one of many
// buckets by its event ID. When there are many, they are kept in a temporary
// file. At the end one bucket after the other is judged in memory. So memory
// depends on the size of a bucket and not on the number of events.
//
// What a row should look like in Kafka is derived here from the configuration
// and docs/wire-format.md, not from the encoder that published it. Otherwise a
// mistake made there would be made twice.
package verify
