// Package replay is the command that publishes a part of the past again, from
// the WAL or from the table. It plans; package pipeline publishes. Start at
// replay.plan and replay.resume.
package replay
