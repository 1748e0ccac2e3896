package report

import "strings"

// Plot is a picture of the report.
type Plot struct {
	File  string
	SVG   string
	title string
}

// Plots returns all pictures: of each workload, and of each parameter of a
// sweep.
func (r *Report) Plots() []Plot {
	var all []Plot
	for _, w := range r.measured() {
		all = append(all, r.plotsOf(w)...)
	}
	return append(all, r.sweepPlots()...)
}

// plotsOf returns bars for each contender, if there are several.
func (r *Report) plotsOf(workload string) []Plot {
	if r.Sweep || len(r.bars(workload, func(x Result) float64 { return x.Rate })) < 2 {
		return nil // nothing to compare
	}
	name := strings.ReplaceAll(workload, "@", "-at-")
	if r.steady(workload) {
		bars := r.latencyBars(workload)
		title := workload + ": latency from before the insert until consumption"
		return []Plot{{name + "-latency.svg", Bars(title, "ms: bar to p50, whisker to p99", bars, true), title}}
	}
	rate, cpu := workload+": events per second", workload+": CPU of the client per event"
	return []Plot{
		{name + "-rate.svg", Bars(rate, "events/s", r.bars(workload, func(x Result) float64 { return x.Rate }), false), rate},
		{name + "-cpu.svg", Bars(cpu, "µs", r.bars(workload, func(x Result) float64 { return x.ClientCPU }), true), cpu},
	}
}

func (r *Report) bars(workload string, quantity func(Result) float64) (bars []Bar) {
	for _, c := range r.Contenders {
		if value := r.Spread(workload, c.Name, quantity); value.Rounds > 0 {
			bars = append(bars, Bar{Label: c.Name, Value: value, Ours: isOurs(c.Name)})
		}
	}
	return bars
}

func (r *Report) latencyBars(workload string) (bars []Bar) {
	p50 := r.bars(workload, func(x Result) float64 { return latency(x).P50 })
	p99 := r.bars(workload, func(x Result) float64 { return latency(x).P99 })
	for i, b := range p50 {
		b.Value = Spread{Median: b.Value.Median, Min: b.Value.Median, Max: p99[i].Value.Median, Rounds: b.Value.Rounds}
		bars = append(bars, b)
	}
	return bars
}

func isOurs(contender string) bool { return strings.HasPrefix(contender, streamer) }

// sweepPlots returns lines over workloads whose names differ in a number only:
// row-100, row-300 and so on.
func (r *Report) sweepPlots() (plots []Plot) {
	if !r.Sweep {
		return nil
	}
	for _, quantity := range []struct {
		name, unit string
		of         func(Result) float64
	}{
		{"rate", "events/s", func(x Result) float64 { return x.Rate }},
		{"cpu", "µs of CPU of the client per event", func(x Result) float64 { return x.ClientCPU }},
	} {
		for _, parameter := range []struct{ prefix, title string }{
			{"row-", "bytes of a payload"}, {"transaction-", "rows of a transaction"}, {"partitions-", "partitions"},
		} {
			if points := r.points(parameter.prefix, quantity.of); len(points) > 1 {
				title := quantity.unit + " by " + parameter.title
				plots = append(plots, Plot{parameter.prefix + quantity.name + ".svg", Line(title, parameter.title, points), title})
			}
		}
	}
	return plots
}

func (r *Report) points(prefix string, quantity func(Result) float64) (points []Point) {
	for _, w := range r.measured() {
		label, matches := strings.CutPrefix(w, prefix)
		if value := r.Spread(w, streamer, quantity); matches && value.Rounds > 0 {
			points = append(points, Point{Label: label, Value: value})
		}
	}
	return points
}
