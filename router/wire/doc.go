// Package wire is what the streamer and those who check it have in common about
// records in Kafka: the names of headers, and the form of the sequence attribute.
//
// The full description is docs/wire-format.md. It knows no encoder and no client,
// so that whoever reads records, such as package verify, shares no code with the one
// who has written them.
package wire
