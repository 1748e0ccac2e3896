// Package importer is streamer import: it translates the configuration of
// another program into one of the streamer, and reports what became of each
// option. Start at [Debezium].
package importer
