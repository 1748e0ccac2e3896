package page

import (
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	// The drawing has its own units, and is stretched to the width of its place.
	chartWidth, chartHeight = 300.0, 56.0
	// points is how many a line has at most. Of several samples the highest counts.
	points = 150
)

// Chart is a drawing of one quantity over the last hour, and the same in words.
type Chart struct {
	ID, Name             string
	Line, Area           string // paths; empty without a sample
	Limit                string // path of the limit, if it is in the picture
	Now, Lowest, Highest string
	From                 string // when it begins: 5 min ago
	LimitText            string
}

// quantity is what a chart is about.
type quantity struct {
	id, name string
	of       func(sample) float64
	limit    func(sample) float64 // nil: there is none
	text     func(float64) string
	atLeast  float64 // lowest value for the upper edge, so that noise looks like noise
}

// draw makes a chart of the samples.
func (q quantity) draw(now time.Time, samples []sample) Chart {
	span := spanOf(now, samples)
	c := Chart{ID: q.id, Name: q.name, From: minutes(span) + " ago"}
	values, lowest, highest := q.buckets(now, span, samples)
	if math.IsNaN(highest) {
		return c
	}
	last := values[lastKnown(values)]
	c.Now, c.Lowest, c.Highest = q.text(last), q.text(lowest), q.text(highest)
	top := math.Max(highest*1.08, q.atLeast)
	if limit := q.limitOf(samples); !math.IsNaN(limit) {
		c.LimitText = q.text(limit)
		if limit <= 4*highest {
			top = math.Max(top, limit*1.08)
			c.Limit = fmt.Sprintf("M0 %.1fH%.0f", height(limit, top), chartWidth)
		}
	}
	c.Line, c.Area = paths(values, top)
	return c
}

// spanOf is the time that the chart shows: not much more than there are samples
// for.
func spanOf(now time.Time, samples []sample) time.Duration {
	if len(samples) > 0 {
		for _, span := range []time.Duration{5 * time.Minute, 15 * time.Minute, 30 * time.Minute} {
			if now.Sub(samples[0].at) <= span {
				return span
			}
		}
		return time.Hour
	}
	return 5 * time.Minute
}

func minutes(span time.Duration) string {
	if span == time.Hour {
		return "1 h"
	}
	return fmt.Sprintf("%d min", span/time.Minute)
}

// buckets are the highest values of equal parts of the span.
func (q quantity) buckets(now time.Time, span time.Duration, samples []sample) (values []float64, lowest, highest float64) {
	n := min(points, int(span/sampleEvery))
	values = make([]float64, n)
	for i := range values {
		values[i] = unknown
	}
	lowest, highest = unknown, unknown
	for _, s := range samples {
		v, age := q.of(s), now.Sub(s.at)
		i := n - 1 - int(age*time.Duration(n)/span)
		if math.IsNaN(v) || i < 0 || i >= n {
			continue
		}
		if !(values[i] >= v) {
			values[i] = v
		}
		if !(lowest <= v) {
			lowest = v
		}
		if !(highest >= v) {
			highest = v
		}
	}
	bridge(values)
	return values, lowest, highest
}

// bridge fills single gaps: samples do not come at exact times.
func bridge(values []float64) {
	for i := 1; i < len(values)-1; i++ {
		if math.IsNaN(values[i]) && !math.IsNaN(values[i-1]) && !math.IsNaN(values[i+1]) {
			values[i] = values[i-1]
		}
	}
	if n := len(values); n > 1 && math.IsNaN(values[n-1]) {
		values[n-1] = values[n-2]
	}
}

func lastKnown(values []float64) int {
	for i := len(values) - 1; i > 0; i-- {
		if !math.IsNaN(values[i]) {
			return i
		}
	}
	return 0
}

// limitOf is the last limit that is known.
func (q quantity) limitOf(samples []sample) float64 {
	if q.limit == nil || len(samples) == 0 {
		return unknown
	}
	return q.limit(samples[len(samples)-1])
}

// paths are a line, interrupted where nothing is known, and the area below it.
func paths(values []float64, top float64) (line, area string) {
	var l, a strings.Builder
	step := chartWidth / float64(max(1, len(values)-1))
	begin := -1
	for i := 0; i <= len(values); i++ {
		known := i < len(values) && !math.IsNaN(values[i])
		if !known {
			if begin >= 0 {
				fmt.Fprintf(&a, "V%.0fH%.1fZ", chartHeight, float64(begin)*step)
			}
			begin = -1
			continue
		}
		x, y := float64(i)*step, height(values[i], top)
		if begin < 0 {
			begin = i
			fmt.Fprintf(&l, "M%.1f %.1fh0", x, y)
			fmt.Fprintf(&a, "M%.1f %.0fV%.1f", x, chartHeight, y)
			continue
		}
		fmt.Fprintf(&l, "L%.1f %.1f", x, y)
		fmt.Fprintf(&a, "L%.1f %.1f", x, y)
	}
	return l.String(), a.String()
}

// height is the distance from the upper edge.
func height(v, top float64) float64 { return chartHeight * (1 - v/top) }
