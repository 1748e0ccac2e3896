package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// svg collects shapes. Lengths are pixels.
type svg struct{ body bytes.Buffer }

func newSVG(width, height int, background string) *svg {
	s := &svg{}
	fmt.Fprintf(&s.body, `<svg xmlns="http://www.w3.org/2000/svg" `+
		`viewBox="0 0 %d %d" font-family="Helvetica,Arial,sans-serif">`+"\n", width, height)
	s.rect(0, 0, float64(width), float64(height), background)
	return s
}

func (s *svg) rect(x, y, w, h float64, color string) {
	fmt.Fprintf(&s.body, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="4" fill="%s"/>`+"\n", x, y, w, h, color)
}

func (s *svg) line(x1, y1, x2, y2 float64, color string) {
	fmt.Fprintf(&s.body, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, color)
}

func (s *svg) path(d, color string) {
	fmt.Fprintf(&s.body, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", d, color)
}

// step adds a point to a path.
func step(path *strings.Builder, begin bool, x, y float64) {
	command := "L"
	if begin {
		command = "M"
	}
	fmt.Fprintf(path, "%s%.1f %.1f", command, x, y)
}

// text writes a text that begins, ends or is centred at x.
func (s *svg) text(x, y, size float64, anchor, color, text string, attributes ...string) {
	fmt.Fprintf(&s.body, `<text x="%.1f" y="%.1f" font-size="%.4g" text-anchor="%s" fill="%s" %s>`,
		x, y, size, anchor, color, strings.Join(attributes, " "))
	_ = xml.EscapeText(&s.body, []byte(text)) // a buffer accepts everything
	s.body.WriteString("</text>\n")
}

func (s *svg) write(out io.Writer) error {
	s.body.WriteString("</svg>\n")
	_, err := out.Write(s.body.Bytes())
	return err
}
