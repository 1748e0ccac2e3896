// Package scaffold is streamer init: it looks at a database, finds outbox
// tables by their columns, and writes a configuration file. Start at [Command].
package scaffold
