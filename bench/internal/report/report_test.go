package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSpreadOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		values []float64
		want   Spread
		text   string
	}{
		{name: "nothing", text: "–"},
		{name: "one", values: []float64{3}, want: Spread{3, 3, 3, 1}, text: "3.0"},
		{name: "odd", values: []float64{3000, 1000, 2000}, want: Spread{2000, 1000, 3000, 3}, text: "2,000 (1,000–3,000)"},
		{name: "even", values: []float64{4, 1, 2, 3}, want: Spread{2.5, 1, 4, 4}, text: "2.5 (1.0–4.0)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := SpreadOf(test.values)
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.text, got.String())
		})
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i+1) * time.Millisecond
	}
	assert.Equal(t, &Latency{P50: 50, P99: 99, P999: 100, Max: 100}, LatencyOf(hundred))
	assert.Equal(t, 7, Quantile([]int{7}, 0.5))
	assert.Equal(t, 1, Quantile([]int{1, 2}, 0.5))
	assert.Equal(t, 1, Quantile([]int{1, 2}, 0))
	assert.Zero(t, Quantile([]int{}, 0.5))
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for value, want := range map[float64]string{
		0: "0", 0.00123: "0.0012", 0.5: "0.50", 3.14159: "3.1", 99.94: "99.9", 123.4: "123", 1234.5: "1,235",
		1_234_567: "1,234,567", -123_456: "-123,456",
	} {
		assert.Equal(t, want, number(value))
	}
}

// sample is a run in which most targets are met.
func sample() *Report {
	r := &Report{
		Date: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), Command: "make bench", Scale: 1, Rounds: 2,
		Machine: Machine{CPU: "a CPU", Cores: 2, Memory: 4 << 30, System: "linux"}, Versions: []Version{{"PostgreSQL", "15.1"}},
		PostgreSQL: map[string]string{"fsync": "off", "autovacuum": "off"},
		Workloads:  []Described{{"W1", "transactions of 10 rows"}},
		LeftOut:    []Described{{"streamer-stream", "unknown key"}},
	}
	for _, name := range []string{"raw-copy", "raw-copy-calls", "raw-produce", "streamer", "baseline", "debezium", "debezium-tuned"} {
		r.Contenders = append(r.Contenders, Described{name, "is " + name})
	}
	add := func(workload, contender string, rate, cpu float64, memory int64) {
		for round := 1; round <= 2; round++ {
			r.Results = append(r.Results, Result{
				Workload: workload, Contender: contender, Round: round, Events: 1000, Rate: rate, TotalRate: rate * 0.9, FirstEvent: 100,
				ClientCPU: cpu, ClientTotal: cpu, PeakMemory: memory << 20, Verified: "1000 records", TopicBytes: 300_000,
			})
		}
	}
	add("W1", "raw-copy", 150_000, 0.5, 8)
	add("W1", "raw-copy-calls", 200_000, 0.5, 8)
	add("W1", "streamer", 160_000, 2.5, 60)
	add("W1", "debezium", 40_000, 40, 900)
	add("W1", "debezium-tuned", 80_000, 30, 900)
	add("W2", "streamer", 100_000, 2.5, 70)
	add("W2", "baseline", 40_000, 15, 90)
	for _, c := range []string{"streamer", "raw-produce"} {
		r.Results = append(r.Results, Result{
			Workload:  RateName("W6", 1000),
			Contender: c,
			Round:     1,
			Events:    1000,
			Rate:      1000,
			Latency:   &Latency{P50: 1, P99: 5, P999: 7, Max: 9},
		})
	}
	r.Results = append(
		r.Results,
		Result{Workload: "W2", Contender: "debezium", Round: 1, Failure: "ended with exit status 1\nits log ends with:\nOutOfMemoryError"},
	)
	return r
}

func TestTargets(t *testing.T) {
	t.Parallel()
	got := map[string]Target{}
	for _, target := range sample().Targets() {
		got[target.What] = target
	}
	find := func(beginning string) Target {
		for what, target := range got {
			if strings.HasPrefix(what, beginning) {
				return target
			}
		}
		t.Fatalf("no target %q", beginning)
		return Target{}
	}
	for _, test := range []struct {
		target  string
		reached float64
		verdict string
	}{
		{"W1 catch-up, streamer ÷ Debezium", 2, "**no**"}, // the tuned one counts
		{"W2 catch-up, streamer ÷ Debezium", 0, "not measured"},
		{"W2 catch-up, streamer ÷ the obvious", 2.5, "yes"},
		{"W1, streamer ÷ SQL decoding", 0.8, "yes"}, // the faster of the two ways
		{"W1 with the streaming reader", 0, "not measured"},
		{"W1 CPU of the client per event, Debezium", 12, "yes"},
		{"W1 CPU of the client per event, in µs", 2.5, "yes"},
		{"peak RSS", 70, "**no**"}, // of W2
		{"W1 start", 100, "yes"},
		{"latency at 1,000/s, streamer ÷ direct produce, p50", 1, "yes"},
		{"throughput with 1,000 partitions", 0, "not measured"},
		{"W1 allocations", 0, "not measured"},
	} {
		assert.InDelta(t, test.reached, find(test.target).Reached, 1e-9, test.target)
		assert.Equal(t, test.verdict, find(test.target).String(), test.target)
	}
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	text := sample().Markdown()
	for _, part := range []string{
		"`make bench` on 21 November 2026", "a CPU, 2 cores, 4.0 GB", "PostgreSQL 15.1", "`autovacuum=off`, `fsync=off`",
		"| streamer | 160,000 (160,000–160,000) | 144,000", "## W6@1000", "| streamer | 1.0 | 5.0 | 7.0 |",
		"- streamer-stream: unknown key", "debezium, round 1 of W2, failed", "OutOfMemoryError",
		"runs without findings, 0 with", "| W2 catch-up, streamer ÷ the obvious Go program | ≥ 2 | 2.5 | yes |",
	} {
		assert.Contains(t, text, part)
	}
	assert.NotContains(t, text, "not to be quoted")
	assert.Contains(t, text, "PostgreSQL, Kafka and the contender share it.")

	apart := sample()
	apart.BrokerCores = 1
	apart.Results = []Result{{
		Workload: "W1", Contender: "streamer", Round: 1, Events: 1, Rate: 1, ClientCPU: 2.5, BackendCPU: 3, BrokerCPU: 1,
	}}
	text = apart.Markdown()
	assert.Contains(t, text, "Kafka has 1 of the cores for itself")
	assert.Contains(t, text, "share the other 1.")
	assert.Contains(t, text, "| 3.0 | 1.0 | 5.5 |", "the broker's CPU is not in the sum")

	busy := sample()
	for i := range busy.Results {
		busy.Results[i].Others = 0.5
	}
	assert.Contains(t, busy.Markdown(), "not left alone")

	small := sample()
	small.Scale = 0.1
	small.Results[0].Suspect = "1000 rows written, 999 records found"
	text = small.Markdown()
	assert.Contains(t, text, "not to be quoted")
	assert.Contains(t, text, "999 records found")
}

// elements parses an SVG and counts its elements.
func elements(t *testing.T, svg string) map[string]int {
	t.Helper()
	count := map[string]int{}
	for decoder := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return count
		}
		require.NoError(t, err, svg)
		if start, ok := token.(xml.StartElement); ok {
			count[start.Name.Local]++
		}
	}
}

func TestPlots(t *testing.T) {
	t.Parallel()
	bars := []Bar{{"a <b>", Spread{10, 9, 12, 3}, true}, {"c", Spread{1000, 900, 1100, 3}, false}, {"none", Spread{}, false}}
	for _, logarithmic := range []bool{false, true} {
		svg := Bars("title & more", "ms", bars, logarithmic)
		assert.NotContains(t, svg, "NaN")
		assert.NotContains(t, svg, "Inf")
		got := elements(t, svg)
		assert.Equal(t, 1+len(bars), got["rect"], "a background and the bars")
	}
	assert.Equal(t, 1, elements(t, Bars("nothing", "ms", nil, true))["rect"])
	points := []Point{{"1", Spread{10, 9, 12, 3}}, {"10", Spread{20, 20, 20, 3}}}
	got := elements(t, Line("title", "rows", points))
	assert.Equal(t, 2, got["circle"])
	assert.Equal(t, 3+2+1, got["path"], "the grid, the spreads and the line")
	assert.Equal(t, 1, elements(t, Line("title", "rows", points[:1]))["circle"])
}

func TestSweepPlots(t *testing.T) {
	t.Parallel()
	r := &Report{Sweep: true, Contenders: []Described{{"streamer", ""}}}
	for _, w := range []string{"row-100", "row-300", "transaction-1"} {
		r.Results = append(r.Results, Result{Workload: w, Contender: "streamer", Round: 1, Events: 1, Rate: 5, ClientCPU: 1})
	}
	var files []string
	for _, p := range r.Plots() {
		files = append(files, p.File)
	}
	assert.Equal(t, []string{"row-rate.svg", "row-cpu.svg"}, files, "one point is no line")
}

func TestWrite(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "report")
	require.NoError(t, sample().Write(folder))
	text, err := os.ReadFile(filepath.Join(folder, "report.json"))
	require.NoError(t, err)
	var got struct {
		Results []Result `json:"results"`
		Targets []Target `json:"targets"`
	}
	require.NoError(t, json.Unmarshal(text, &got))
	assert.Len(t, got.Results, len(sample().Results))
	assert.Len(t, got.Targets, len(sample().Targets()))
	for _, p := range sample().Plots() {
		assert.FileExists(t, filepath.Join(folder, p.File))
	}
	assert.FileExists(t, filepath.Join(folder, "report.md"))
}
