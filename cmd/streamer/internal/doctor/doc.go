// Package doctor is the command that checks whatever can be wrong, and says what to
// do about it. It changes nothing. Each file looks at one part; a check adds one or
// more [Diagnosis]. Start at [Command.Run].
package doctor
