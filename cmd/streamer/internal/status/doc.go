// Package status is the command that shows where a stream stands: slot, stored
// checkpoint, and what a running streamer answers over HTTP. What it prints as JSON
// is a contract with scripts. Start at [Report].
package status
