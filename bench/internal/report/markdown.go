package report

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Markdown writes the human-readable report. The plots are the files of
// [Report.Plots].
func (r *Report) Markdown() string {
	var m markdown
	m.line("# Benchmark")
	m.line("")
	m.line("Written by `%s` on %s. Tables show the median of %s", r.Command, r.Date.Format("2 January 2006, 15:04 MST"), rounds(r.Rounds))
	if r.Scale != 1 {
		m.line("")
		m.line("**The workloads were scaled by %g: such figures show that everything works, and are not to be quoted.**", r.Scale)
	}
	r.writeMachine(&m)
	r.writeDescriptions(&m)
	for _, w := range r.measured() {
		r.writeWorkload(&m, w)
	}
	r.writeSweep(&m)
	r.writeAudit(&m)
	r.writeLeftOut(&m)
	r.writeTargets(&m)
	return m.String()
}

func rounds(n int) string {
	if n == 1 {
		return "one round only."
	}
	return fmt.Sprintf("%d rounds, with the extremes in parentheses; the rounds of the contenders are interleaved.", n)
}

// markdown is a text under construction.
type markdown struct{ strings.Builder }

func (m *markdown) line(format string, arguments ...any) {
	fmt.Fprintf(m, format, arguments...)
	m.WriteByte('\n')
}

// table writes rows of cells; the first row is the header.
func (m *markdown) table(rows [][]string) {
	for i, row := range rows {
		m.line("| %s |", strings.ReplaceAll(strings.Join(row, " | "), "\n", "<br>"))
		if i == 0 {
			m.line("|%s", strings.Repeat("---|", len(row)))
		}
	}
	m.line("")
}

func (r *Report) writeMachine(m *markdown) {
	m.line("")
	m.line("Machine: %s, %d cores, %.1f GB of memory, %s. %s",
		r.Machine.CPU, r.Machine.Cores, float64(r.Machine.Memory)/(1<<30), r.Machine.System, r.sharing())
	m.line("")
	var versions []string
	for _, v := range r.Versions {
		versions = append(versions, v.Name+" "+v.Version)
	}
	m.line("Versions: %s.", strings.Join(versions, ", "))
	m.line("")
	r.writeOthers(m)
	m.line("")
	var set []string
	for _, name := range slices.Sorted(maps.Keys(r.PostgreSQL)) {
		set = append(set, name+"="+r.PostgreSQL[name])
	}
	m.line("PostgreSQL: `%s`. Kafka: one broker, in KRaft mode.", strings.Join(set, "`, `"))
	m.line("")
}

// sharing describes who ran on which cores.
func (r *Report) sharing() string {
	if r.BrokerCores == 0 {
		return "PostgreSQL, Kafka and the contender share it."
	}
	return fmt.Sprintf("Kafka has %d of the cores for itself, as if it ran elsewhere; "+
		"PostgreSQL, the contender and the harness share the other %d.",
		r.BrokerCores, r.Machine.Cores-r.BrokerCores)
}

// quiet is the largest share of the machine that others may take in a run worth
// quoting.
const quiet = 0.1

// writeOthers reports whether the machine was otherwise idle.
func (r *Report) writeOthers(m *markdown) {
	var shares []float64
	for _, x := range r.Results {
		if x.Failure == "" && x.Latency == nil {
			shares = append(shares, 100*x.Others)
		}
	}
	s := SpreadOf(shares)
	m.line("Other processes took %s %% of the CPU time during the catch-ups, PostgreSQL's own background work included.", s)
	if s.Median > 100*quiet {
		m.line("")
		m.line("**The machine was not left alone: the figures are not to be quoted.**")
	}
}

func (r *Report) writeDescriptions(m *markdown) {
	for _, list := range []struct {
		title string
		of    []Described
	}{{"Workloads", r.Workloads}, {"Contenders", r.Contenders}} {
		m.line("## %s", list.title)
		m.line("")
		for _, d := range list.of {
			m.line("- **%s** – %s", d.Name, d.About)
		}
		m.line("")
	}
	m.line("What the columns mean: *events/s* is from the first event in Kafka to the last; *from start* is from the")
	m.line("start of the process to the last event. CPU is µs per event: of the client between the first event and the")
	m.line("last (*whole*: from start to exit), of the PostgreSQL backends that serve it, and of the broker. *Without broker*")
	m.line("is the sum of the first two: what remains on this machine where Kafka runs elsewhere. A *reader*")
	m.line("writes nothing to Kafka and is measured from its start to its exit.")
	m.line("")
}

// column is a column of a table of results.
type column struct {
	name     string
	quantity func(Result) float64
}

var catchUpColumns = []column{
	{"events/s", func(x Result) float64 { return x.Rate }},
	{"from start", func(x Result) float64 { return x.TotalRate }},
	{"first event, ms", func(x Result) float64 { return x.FirstEvent }},
	{"client CPU", func(x Result) float64 { return x.ClientCPU }},
	{"whole", func(x Result) float64 { return x.ClientTotal }},
	{"backend CPU", func(x Result) float64 { return x.BackendCPU }},
	{"broker CPU", func(x Result) float64 { return x.BrokerCPU }},
	{"without broker", func(x Result) float64 { return x.ClientCPU + x.BackendCPU }},
	{"peak RSS, MB", megabytes},
	{"bytes/event in Kafka", func(x Result) float64 { return float64(x.TopicBytes) / float64(max(1, x.Events)) }},
	{"allocations/event", func(x Result) float64 { return x.Allocations }},
}

var steadyColumns = []column{
	{"p50, ms", func(x Result) float64 { return latency(x).P50 }},
	{"p99, ms", func(x Result) float64 { return latency(x).P99 }},
	{"p99.9, ms", func(x Result) float64 { return latency(x).P999 }},
	{"events/s", func(x Result) float64 { return x.Rate }},
	{"client CPU", func(x Result) float64 { return x.ClientCPU }},
	{"backend CPU", func(x Result) float64 { return x.BackendCPU }},
	{"broker CPU", func(x Result) float64 { return x.BrokerCPU }},
	{"without broker", func(x Result) float64 { return x.ClientCPU + x.BackendCPU }},
	{"peak RSS, MB", megabytes},
}

func (r *Report) writeWorkload(m *markdown, workload string) {
	columns := catchUpColumns
	if r.steady(workload) {
		columns = steadyColumns
	}
	head := []string{"contender"}
	for _, c := range columns {
		head = append(head, c.name)
	}
	rows := [][]string{head}
	for _, contender := range r.Contenders {
		if !r.took(workload, contender.Name) {
			continue
		}
		row := []string{contender.Name}
		for _, c := range columns {
			row = append(row, r.Spread(workload, contender.Name, c.quantity).String())
		}
		rows = append(rows, row)
	}
	if len(rows) == 1 {
		return // all have failed
	}
	m.line("## %s", workload)
	m.line("")
	m.table(rows)
	for _, p := range r.plotsOf(workload) {
		m.line("![%s](%s)", p.title, p.File)
		m.line("")
	}
}

func (r *Report) steady(workload string) bool {
	return slices.ContainsFunc(r.Results, func(x Result) bool { return x.Workload == workload && x.Latency != nil })
}

// took reports whether a contender has completed a workload at least once.
func (r *Report) took(workload, contender string) bool {
	return slices.ContainsFunc(r.Results, func(x Result) bool {
		return x.Workload == workload && x.Contender == contender && x.Failure == ""
	})
}

func (r *Report) writeSweep(m *markdown) {
	plots := r.sweepPlots()
	if len(plots) == 0 {
		return
	}
	m.line("## How cost grows")
	m.line("")
	for _, p := range plots {
		m.line("![%s](%s)", p.title, p.File)
		m.line("")
	}
}

// writeAudit reports what was found in Kafka after each run.
func (r *Report) writeAudit(m *markdown) {
	m.line("## Is everything there?")
	m.line("")
	m.line("After each run of the streamer, `streamer verify --strict` compares the outbox with the topics: missing,")
	m.line("altered, repeated and misordered events. For the other contenders, the records are counted.")
	m.line("")
	good, rows := 0, [][]string{{"workload", "contender", "round", "found"}}
	for _, x := range r.Results {
		if x.Suspect != "" {
			rows = append(rows, []string{x.Workload, x.Contender, strconv.Itoa(x.Round), x.Suspect})
		} else if x.Verified != "" {
			good++
		}
	}
	m.line("%d runs without findings, %d with.", good, len(rows)-1)
	m.line("")
	if len(rows) > 1 {
		m.table(rows)
	}
}

func (r *Report) writeLeftOut(m *markdown) {
	m.line("## Left out and failed")
	m.line("")
	none := true
	for _, d := range r.LeftOut {
		m.line("- %s: %s", d.Name, d.About)
		none = false
	}
	for _, x := range r.Results {
		if x.Failure != "" {
			m.line("- %s, round %d of %s, failed:", x.Contender, x.Round, x.Workload)
			m.line("")
			m.line("  ```text\n  %s\n  ```", strings.ReplaceAll(x.Failure, "\n", "\n  "))
			none = false
		}
	}
	if none {
		m.line("Nothing.")
	}
	m.line("")
}

func (r *Report) writeTargets(m *markdown) {
	m.line("## Targets")
	m.line("")
	m.line("Ratios compare medians of this run. If a contender has several configurations, the best one counts.")
	m.line("")
	rows := [][]string{{"", "target", "reached", ""}}
	for _, t := range r.Targets() {
		reached := "–"
		if t.Known {
			reached = number(t.Reached)
		}
		rows = append(rows, []string{t.What, t.Wanted, reached, t.String()})
	}
	m.table(rows)
}
