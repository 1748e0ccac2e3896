// Package preview is the command that shows what waits in the slot as it would be
// published. It consumes nothing. Start at [Rows].
package preview
