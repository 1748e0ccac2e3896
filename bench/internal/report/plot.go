package report

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"strings"
)

// Sizes of plots, in pixels.
const (
	plotWidth  = 760
	labelWidth = 170
	valueWidth = 150
	barHeight  = 22
	titleSpace = 46
	lineHeight = 260
)

// Colours: the streamer's stands out, the others do not compete.
const (
	ours   = "#1f6feb"
	others = "#8b949e"
	ink    = "#24292f"
	grid   = "#d0d7de"
)

// Bar is one line of a bar plot: a median with its extremes.
type Bar struct {
	Label string
	Value Spread
	Ours  bool
}

// Bars draws horizontal bars with whiskers. A logarithmic plot is for values
// that differ by more than a factor of about ten.
func Bars(title, unit string, bars []Bar, logarithmic bool) string {
	width := float64(plotWidth - labelWidth - valueWidth)
	largest, smallest := 0.0, math.Inf(1)
	for _, b := range bars {
		if b.Value.Rounds > 0 {
			largest, smallest = max(largest, b.Value.Max), min(smallest, b.Value.Min)
		}
	}
	scale := func(v float64) float64 {
		switch {
		case largest <= 0 || v <= 0:
			return 0
		case logarithmic && largest > smallest:
			return width * (0.05 + 0.95*math.Log(v/smallest)/math.Log(largest/smallest))
		}
		return width * v / largest
	}
	note := unit
	if logarithmic {
		note += ", logarithmic"
	}
	s := newDrawing(title, note, titleSpace+barHeight*len(bars)+12)
	for i, b := range bars {
		y := float64(titleSpace + i*barHeight)
		s.text(labelWidth-8, y+15, "end", ink, b.Label)
		s.add(`<rect x="%d" y="%.1f" width="%.1f" height="%d" fill="%s"/>`, labelWidth, y+3, scale(b.Value.Median), barHeight-6, colour(b.Ours))
		from, to, middle := labelWidth+scale(b.Value.Min), labelWidth+scale(b.Value.Max), y+barHeight/2
		s.add(`<path d="M%.1f %.1fH%.1fM%.1f %.1fv6M%.1f %.1fv6" stroke="%s"/>`, from, middle, to, from, middle-3, to, middle-3, ink)
		s.text(max(to, labelWidth+scale(b.Value.Median))+8, y+15, "start", ink, number(b.Value.Median))
	}
	return s.end()
}

// Point is a point of a line plot; points are side by side at equal distances.
type Point struct {
	Label string
	Value Spread
}

// Line draws how a quantity changes with a parameter.
func Line(title, unit string, points []Point) string {
	const top, bottom = titleSpace + 10, lineHeight - 30
	largest := 0.0
	for _, p := range points {
		largest = max(largest, p.Value.Max)
	}
	largest = cmp.Or(largest, 1)
	step := float64(plotWidth-2*80) / float64(max(1, len(points)-1))
	x := func(i int) float64 { return 80 + step*float64(i) }
	y := func(v float64) float64 { return bottom - (bottom-top)*v/largest }
	s := newDrawing(title, unit, lineHeight)
	for _, share := range []float64{0, 0.5, 1} {
		s.add(`<path d="M70 %.1fH%d" stroke="%s"/>`, y(largest*share), plotWidth-60, grid)
		s.text(64, y(largest*share)+4, "end", ink, number(largest*share))
	}
	path := make([]string, len(points))
	for i, p := range points {
		s.add(`<path d="M%.1f %.1fV%.1f" stroke="%s"/>`, x(i), y(p.Value.Min), y(p.Value.Max), ink)
		s.add(`<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`, x(i), y(p.Value.Median), ours)
		s.text(x(i), lineHeight-10, "middle", ink, p.Label)
		path[i] = fmt.Sprintf("%.1f %.1f", x(i), y(p.Value.Median))
	}
	if len(points) > 1 {
		s.add(`<path d="M%s" fill="none" stroke="%s" stroke-width="2"/>`, strings.Join(path, " "), ours)
	}
	return s.end()
}

// drawing is an SVG under construction.
type drawing struct{ strings.Builder }

func newDrawing(title, unit string, height int) *drawing {
	s := &drawing{}
	s.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`, plotWidth, height)
	s.add(`<rect width="%d" height="%d" fill="#ffffff"/>`, plotWidth, height)
	s.add(`<text x="12" y="20" font-size="15" fill="%s">%s</text>`, ink, html.EscapeString(title))
	s.text(12, 37, "start", others, unit)
	return s
}

func (s *drawing) add(format string, arguments ...any) {
	fmt.Fprintf(s, format, arguments...)
	s.WriteByte('\n')
}

func (s *drawing) text(x, y float64, anchor, fill, text string) {
	s.add(`<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`, x, y, anchor, fill, html.EscapeString(text))
}

func (s *drawing) end() string {
	s.add("</svg>")
	return s.String()
}

func colour(mine bool) string {
	if mine {
		return ours
	}
	return others
}
