// Package wire is what the streamer and its checkers share about records in
// Kafka: the names of headers and the form of the sequence attribute.
//
// The full description is docs/wire-format.md. Package wire contains no encoder
// and no client. A reader of records, such as package verify, therefore shares
// no code with the writer.
package wire
