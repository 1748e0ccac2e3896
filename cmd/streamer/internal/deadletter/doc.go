// Package deadletter holds the commands that list, show, publish and drop rows
// that could not be published. Start at letterBox, the dead letter topic as it
// was when it was opened.
package deadletter
