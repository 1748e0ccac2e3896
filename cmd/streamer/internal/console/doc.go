// Package console is what every command shares with a terminal: the streams it
// reads and writes, tables and JSON, numbers and durations for people, positions
// and times as they are typed, the logger, and the version.
//
// It asks no server and knows no command. Start at [Streams].
package console
