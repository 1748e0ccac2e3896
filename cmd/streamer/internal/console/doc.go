// Package console holds what every command shares with a terminal:
//
//   - the streams it reads and writes
//   - tables and JSON
//   - numbers and durations in readable form
//   - positions and times as the operator types them
//   - the logger and the version
//
// It connects to no server and knows no command. Start at [Streams].
package console
