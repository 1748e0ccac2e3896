// Package setup is the command that creates what a stream needs and is missing, or
// prints the statements that do. It never changes what exists. Start at [Command].
package setup
