package console

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// Streams are what a command reads and writes.
type Streams struct {
	In       io.Reader // nil where no answer can be given
	Out, Err io.Writer
}

// JSON writes a value as indented JSON.
func (std Streams) JSON(value any) error {
	encoder := json.NewEncoder(std.Out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// Line writes a value as one line of JSON.
func (std Streams) Line(value any) error {
	encoder := json.NewEncoder(std.Out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// Table writes names and values in two columns.
func (std Streams) Table(rows [][2]string) {
	w := tabwriter.NewWriter(std.Out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
	}
	_ = w.Flush() // a failed write cannot be reported anywhere
}
