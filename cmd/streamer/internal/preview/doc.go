// Package preview is the command that shows the rows waiting in the slot as
// they would be published. It consumes nothing. Start at [Rows].
package preview
