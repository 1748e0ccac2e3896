// Package manual writes what the command line says about itself: completions
// for shells, and the manual page.
//
// Both are made from kong's model of the command line, so a new flag is in them
// without further work. The libraries for this were last released in 2023 or
// earlier, and complete no configuration keys. Start at [Completion] and [Page].
package manual
