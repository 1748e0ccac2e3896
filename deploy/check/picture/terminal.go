package main

import (
	"bufio"
	"io"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"
)

const (
	widest    = 118  // characters of a line
	character = 7.83 // pixels
	lineStep  = 19
)

// verdicts matches the verdict at the beginning of a line of the doctor, and
// determines its color.
var verdicts = regexp.MustCompile(`^(ok|warn|FAIL) `)

var verdictColors = map[string]string{"ok": "#7ee787", "warn": "#f2cc60", "FAIL": "#ff7b72", "": "#e6edf3"}

// drawTerminal draws a command and its output.
func drawTerminal(out io.Writer, command string, printed io.Reader) error {
	type row struct{ text, color string }
	rows := []row{{"$ " + command, "#79c0ff"}}
	for lines := bufio.NewScanner(printed); lines.Scan(); {
		color := verdictColors[strings.TrimSpace(verdicts.FindString(lines.Text()))]
		for _, part := range wrap(lines.Text()) {
			rows = append(rows, row{part, color})
		}
	}
	s := newSVG(int(math.Ceil(widest*character))+40, len(rows)*lineStep+30, "#0d1117")
	for i, r := range rows {
		s.text(20, float64(28+i*lineStep), 13, "start", r.color, r.text,
			`font-family="Menlo,Consolas,'DejaVu Sans Mono',monospace"`, `xml:space="preserve"`)
	}
	return s.write(out)
}

// wrap breaks a line between words and indents the continuation.
func wrap(text string) (parts []string) {
	const indent = "      "
	for utf8.RuneCountInString(text) > widest {
		runes := []rune(text)
		at := strings.LastIndex(string(runes[:widest]), " ")
		if at <= len(indent) {
			at = len(string(runes[:widest]))
		}
		parts = append(parts, text[:at])
		text = indent + strings.TrimLeft(text[at:], " ")
	}
	return append(parts, text)
}
