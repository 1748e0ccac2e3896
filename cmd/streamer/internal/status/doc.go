// Package status is the command that shows where a stream stands: slot, stored
// checkpoint, and what a running streamer answers over HTTP. Its JSON output is
// a contract with scripts. Start at [Report].
package status
