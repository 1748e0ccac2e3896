package report

import (
	"cmp"
	"fmt"
	"strings"
)

// Names to which targets refer.
const (
	streamer = "streamer"
	baseline = "baseline"
)

// Target is what the streamer should reach, and whether it has.
type Target struct {
	What    string  `json:"what"`
	Wanted  string  `json:"wanted"`
	Reached float64 `json:"reached"`
	// Known is false if the run did not measure what is needed.
	Known bool `json:"measured"`
	Met   bool `json:"met"`
}

// String is the verdict.
func (t Target) String() string {
	switch {
	case !t.Known:
		return "not measured"
	case t.Met:
		return "yes"
	}
	return "**no**"
}

// Targets compares the report with what the streamer should reach. Ratios are
// between medians of the same run. If another contender has several
// configurations, the best one counts.
func (r *Report) Targets() []Target {
	rate := func(x Result) float64 { return x.Rate }
	total := func(x Result) float64 { return x.TotalRate }
	cpu := func(x Result) float64 { return x.ClientCPU }
	p50 := func(x Result) float64 { return latency(x).P50 }
	p99 := func(x Result) float64 { return latency(x).P99 }
	at1000 := RateName("W6", 1000)
	return []Target{
		atLeast("W1 catch-up, streamer ÷ Debezium", 3, ratio(r.median("W1", streamer, rate), r.most("W1", "debezium", rate))),
		atLeast("W2 catch-up, streamer ÷ Debezium", 4, ratio(r.median("W2", streamer, rate), r.most("W2", "debezium", rate))),
		atLeast("W2 catch-up, streamer ÷ the obvious Go program", 2, ratio(r.median("W2", streamer, rate), r.median("W2", baseline, rate))),
		atLeast(
			"W1, streamer ÷ SQL decoding through COPY into nothing, both from the start of the process (0.85 is the goal)",
			0.7, ratio(r.median("W1", streamer, total), r.most("W1", "raw-copy", total)),
		),
		atLeast(
			"W1 with the streaming reader, streamer ÷ pg_recvlogical into nothing, both from the start of the process",
			1.4, ratio(r.median("W1", "streamer-stream", total), r.median("W1", "raw-recvlogical", total)),
		),
		atLeast("W1 CPU of the client per event, Debezium ÷ streamer", 10, ratio(r.least("W1", "debezium", cpu), r.median("W1", streamer, cpu))),
		atMost("W1 CPU of the client per event, in µs", 3, r.median("W1", streamer, cpu)),
		atMost("peak RSS over all workloads and variants, in MB", 64, r.peakMemory()),
		atMost("W1 start → first event on a prepared slot, in ms", 250,
			r.median("W1", streamer, func(x Result) float64 { return x.FirstEvent })),
		atMost("latency at 1,000/s, streamer ÷ direct produce, p50", 3,
			ratio(r.median(at1000, streamer, p50), r.median(at1000, "raw-produce", p50))),
		atMost("latency at 1,000/s, streamer ÷ direct produce, p99", 2,
			ratio(r.median(at1000, streamer, p99), r.median(at1000, "raw-produce", p99))),
		atMost("latency at 1,000/s, streamer ÷ an application that inserts and then produces, p50", 1.3,
			ratio(r.median(at1000, streamer, p50), r.median(at1000, "raw-dual-write", p50))),
		atMost("latency at 1,000/s, streamer ÷ an application that inserts and then produces, p99", 1.3,
			ratio(r.median(at1000, streamer, p99), r.median(at1000, "raw-dual-write", p99))),
		atLeast(
			"throughput with 1,000 partitions over 50 topics ÷ with 8",
			0.6,
			ratio(r.median("partitions-1000", streamer, rate), cmp.Or(r.median("partitions-8", streamer, rate), r.median("W1", streamer, rate))),
		),
		atMost(
			"W1 allocations per event; below 0.01 is 0 amortised",
			0.01, r.median("W1", streamer, func(x Result) float64 { return x.Allocations }),
		),
	}
}

func atLeast(what string, wanted, reached float64) Target {
	return Target{What: what, Wanted: "≥ " + fmt.Sprint(wanted), Reached: reached, Known: reached > 0, Met: reached >= wanted}
}

func atMost(what string, wanted, reached float64) Target {
	return Target{What: what, Wanted: "≤ " + fmt.Sprint(wanted), Reached: reached, Known: reached > 0, Met: reached > 0 && reached <= wanted}
}

// ratio is 0 if either value was not measured.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func (r *Report) median(workload, contender string, quantity func(Result) float64) float64 {
	return r.Spread(workload, contender, quantity).Median
}

// most is the largest median among the configurations of a contender.
func (r *Report) most(workload, contender string, quantity func(Result) float64) (most float64) {
	for _, c := range r.configurations(contender) {
		most = max(most, r.median(workload, c, quantity))
	}
	return most
}

// least is the smallest median that was measured.
func (r *Report) least(workload, contender string, quantity func(Result) float64) (least float64) {
	for _, c := range r.configurations(contender) {
		if value := r.median(workload, c, quantity); value > 0 && (least == 0 || value < least) {
			least = value
		}
	}
	return least
}

func (r *Report) configurations(contender string) (names []string) {
	for _, c := range r.Contenders {
		if c.Name == contender || strings.HasPrefix(c.Name, contender+"-") {
			names = append(names, c.Name)
		}
	}
	return names
}

// peakMemory is the streamer's largest median, in MB.
func (r *Report) peakMemory() (most float64) {
	for _, w := range r.measured() {
		most = max(most, r.most(w, streamer, megabytes))
	}
	return most
}

func megabytes(x Result) float64 { return float64(x.PeakMemory) / (1 << 20) }

func latency(x Result) Latency {
	if x.Latency == nil {
		return Latency{}
	}
	return *x.Latency
}

// measured returns the names of workloads in the order of their first results;
// each steady rate counts as one.
func (r *Report) measured() (names []string) {
	seen := map[string]bool{}
	for _, result := range r.Results {
		if !seen[result.Workload] {
			seen[result.Workload] = true
			names = append(names, result.Workload)
		}
	}
	return names
}
