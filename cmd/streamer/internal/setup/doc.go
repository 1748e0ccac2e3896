// Package setup is the command that creates what a stream needs and is missing,
// or prints the statements for it. It never changes what exists. Start at
// [Command].
package setup
