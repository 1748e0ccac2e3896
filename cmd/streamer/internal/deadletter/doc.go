// Package deadletter is the commands that list, show, publish and give up rows
// that could not be published. Start at letterBox, which is the dead letter topic
// as it was when it was opened.
package deadletter
