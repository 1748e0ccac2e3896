// Package debezium translates the configuration of a Debezium connector with
// the Outbox Event Router into a configuration of the streamer, and says of each
// option what became of it. It reads files and connects to nothing.
//
// [Read] finds the connectors in files, [Choose] the one to translate, and
// [Connector.Translate] translates it. Options and defaults are those of
// Debezium 3.4 and Kafka Connect 4.1.
package debezium
