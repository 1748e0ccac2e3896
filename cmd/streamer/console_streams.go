package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// streams are what a command reads and writes.
type streams struct {
	In       io.Reader // nil where nobody can answer
	Out, Err io.Writer
}

// writeJSON writes a value in a form that people can read as well.
func (std streams) writeJSON(value any) error {
	encoder := json.NewEncoder(std.Out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// writeLine writes a value as one line of JSON.
func (std streams) writeLine(value any) error {
	encoder := json.NewEncoder(std.Out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// table writes names and values in two columns.
func (std streams) table(rows [][2]string) {
	w := tabwriter.NewWriter(std.Out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
	}
	_ = w.Flush() // nobody is left to tell
}
