// Package report turns the measurements of a run into tables, plots, and a
// verdict on the targets.
package report

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Report is a run of the benchmark.
type Report struct {
	Date    time.Time `json:"date"`
	Command string    `json:"command"`
	Scale   float64   `json:"scale"`
	Rounds  int       `json:"rounds"`
	Sweep   bool      `json:"sweep"`
	// BrokerCores is how many of the machine's cores Kafka had for itself; 0:
	// it shared all of them.
	BrokerCores int               `json:"broker_cores,omitempty"`
	Machine     Machine           `json:"machine"`
	Versions    []Version         `json:"versions"`
	PostgreSQL  map[string]string `json:"postgresql_settings"`
	Workloads   []Described       `json:"workloads"`
	Contenders  []Described       `json:"contenders"`
	LeftOut     []Described       `json:"left_out"`
	Results     []Result          `json:"results"`
}

// Machine is the machine that ran the benchmark.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory_bytes"`
	System string `json:"system"`
}

// Version of a program.
type Version struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Described is a name and its meaning.
type Described struct {
	Name  string `json:"name"`
	About string `json:"about"`
}

// Result is one contender in one round of one workload. Values that were not
// measured are absent: 0.
type Result struct {
	Workload  string `json:"workload"`
	Contender string `json:"contender"`
	Round     int    `json:"round"`
	Events    int64  `json:"events"`
	// Failure is why there are no measurements, with the end of the log.
	Failure string `json:"failure,omitempty"`
	// Verified is what an audit found, Suspect what it should not have found.
	Verified string `json:"verified,omitempty"`
	Suspect  string `json:"suspect,omitempty"`

	Seconds     float64 `json:"seconds"`                  // from the first event to the last
	Rate        float64 `json:"events_per_second"`        // in this time
	TotalRate   float64 `json:"events_per_second_total"`  // from the start of the process to the last event
	FirstEvent  float64 `json:"first_event_ms,omitempty"` // from the start of the process
	ClientCPU   float64 `json:"client_cpu_us"`            // per event, from the first to the last
	ClientTotal float64 `json:"client_cpu_us_total"`      // per event, from start to end of the process
	BackendCPU  float64 `json:"backend_cpu_us"`           // per event, of PostgreSQL
	BrokerCPU   float64 `json:"broker_cpu_us"`            // per event, of Kafka
	PeakMemory  int64   `json:"peak_rss_bytes"`
	TopicBytes  int64   `json:"topic_bytes"`
	Allocations float64 `json:"allocations,omitempty"` // per event, from the first to the last
	Others      float64 `json:"others_share"`          // share of the machine's CPU time that went to other processes; 0 for steady workloads

	Latency *Latency `json:"latency,omitempty"`
}

// Latency at a steady rate, in milliseconds.
type Latency struct {
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p99_9_ms"`
	Max  float64 `json:"max_ms"`
}

// RateName is the name of a workload at one of its steady rates.
func RateName(workload string, rate int) string { return fmt.Sprintf("%s@%d", workload, rate) }

// Spread is the median of several rounds with its extremes.
type Spread struct {
	Median, Min, Max float64
	Rounds           int // 0: not measured
}

// SpreadOf returns the spread of some values.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	values = slices.Sorted(slices.Values(values))
	middle := len(values) / 2
	median := values[middle]
	if len(values)%2 == 0 {
		median = (values[middle-1] + values[middle]) / 2
	}
	return Spread{Median: median, Min: values[0], Max: values[len(values)-1], Rounds: len(values)}
}

// Quantile is the smallest of the sorted values that at least a share q of them
// does not exceed.
func Quantile[T cmp.Ordered](values []T, q float64) T {
	var none T
	if len(values) == 0 {
		return none
	}
	i := int(q*float64(len(values))+0.999999) - 1
	return values[min(max(i, 0), len(values)-1)]
}

// LatencyOf summarises the latencies of events, shortest first.
func LatencyOf(took []time.Duration) *Latency {
	milliseconds := func(q float64) float64 { return float64(Quantile(took, q)) / float64(time.Millisecond) }
	return &Latency{P50: milliseconds(0.5), P99: milliseconds(0.99), P999: milliseconds(0.999), Max: milliseconds(1)}
}

// Spread returns the spread of a quantity over the rounds of a contender. It
// leaves out rounds that failed, and values that were not measured.
func (r *Report) Spread(workload, contender string, quantity func(Result) float64) Spread {
	var values []float64
	for _, result := range r.Results {
		if result.Workload != workload || result.Contender != contender || result.Failure != "" {
			continue
		}
		if value := quantity(result); value > 0 {
			values = append(values, value)
		}
	}
	return SpreadOf(values)
}
