package main

import (
	"math"
	"strings"
	"time"
)

// palette are the colors of lines, in their order.
var palette = []string{"#1f77b4", "#e6842a", "#2ca02c", "#d62728", "#7b4fa3", "#8c564b"}

// chart draws lines over time, with axes and a legend.
type chart struct {
	unit     string
	lines    []line
	from, to float64
}

func (c chart) draw(s *svg, x, y, w, h float64) {
	const margin, legend = 62, 38
	left, bottom := x+margin, y+h-legend
	width, height := w-margin, bottom-y
	top := c.top()
	for i := range 5 {
		at := bottom - height*float64(i)/4
		s.line(left, at, left+width, at, "#e5e8eb")
		s.text(left-6, at+4, 10, "end", "#57606a", format(top*float64(i)/4, c.unit))
	}
	for i := range 5 {
		share := float64(i) / 4
		when := time.Unix(int64(c.from+(c.to-c.from)*share), 0).UTC()
		s.text(left+width*share, bottom+14, 10, []string{"start", "middle", "middle", "middle", "end"}[i], "#57606a", when.Format(time.TimeOnly))
	}
	at := left
	for i, l := range c.lines {
		color := palette[i%len(palette)]
		var path strings.Builder
		previous := math.Inf(-1)
		for _, p := range l.samples() {
			begin := p.at-previous > 3*(c.to-c.from)/points // no values in between
			previous = p.at
			step(&path, begin, left+width*(p.at-c.from)/(c.to-c.from), bottom-height*min(1, p.value/top))
		}
		s.path(path.String(), color)
		s.line(at, bottom+28, at+14, bottom+28, color)
		s.text(at+18, bottom+32, 10.5, "start", "#24292e", l.name)
		at += 32 + 6.1*float64(len(l.name))
	}
}

// top returns a round value above all others.
func (c chart) top() float64 {
	highest := 0.0
	for _, l := range c.lines {
		for _, p := range l.samples() {
			highest = max(highest, p.value)
		}
	}
	if highest == 0 {
		return 1
	}
	base := 10.0
	if c.unit == "bytes" {
		base = 2
	}
	unit := math.Pow(base, math.Floor(math.Log(highest)/math.Log(base)))
	for _, factor := range []float64{1, 1.5, 2, 3, 4, 5, 6, 8} {
		if factor*unit >= highest {
			return factor * unit
		}
	}
	return base * unit
}
