// Package doctor is the command that checks everything that can be wrong and
// names the remedy. It changes nothing. Each file covers one part. Each check
// adds one or more of [Diagnosis]. Start at [Command.Run].
package doctor
