// Package replay is the command that publishes a part of the past again, out of the
// log or out of the table. It plans; package pipeline publishes. Start at
// replay.plan and replay.resume.
package replay
