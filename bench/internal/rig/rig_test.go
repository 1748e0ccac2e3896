package rig

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/bench/internal/contender"
	"github.com/outboxstream/streamer/bench/internal/report"
	"github.com/outboxstream/streamer/bench/internal/workload"
	"github.com/outboxstream/streamer/internal/testserver"
)

func TestWanted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		contenders []string
		want       bool
	}{
		{name: "streamer", want: true},
		{name: "streamer", contenders: []string{"raw", "streamer"}, want: true},
		{name: "streamer-stream", contenders: []string{"streamer"}, want: true},
		{name: "streamer", contenders: []string{"streamer-stream"}},
		{name: "streamers", contenders: []string{"streamer"}},
		{name: "streamer", contenders: []string{"=streamer"}, want: true},
		{name: "streamer-stream", contenders: []string{"=streamer"}},
	} {
		r := &Rig{options: Options{Contenders: test.contenders}}
		assert.Equal(t, test.want, r.wanted(test.name), "%s of %v", test.name, test.contenders)
	}
}

func TestCheckDisk(t *testing.T) {
	t.Parallel()
	folder, err := testserver.NewFolder(t.TempDir(), "bench")
	require.NoError(t, err)
	defer func() { assert.NoError(t, folder.Remove()) }()
	huge := workload.Workload{Name: "huge", Rows: 1 << 40, PerTransaction: 1, PayloadBytes: 1 << 10}
	r := &Rig{folder: folder, options: Options{Workloads: []workload.Workload{huge}, Scale: 1}}
	require.ErrorContains(t, r.checkDisk(), "choose a smaller -scale")
}

func TestTakesPart(t *testing.T) {
	t.Parallel()
	raws := map[string]contender.Contender{}
	for _, raw := range contender.Raws(contender.Programs{}, "") {
		raws[raw.Name()] = raw
	}
	catchUp, steady := workload.Workload{Rows: 1}, workload.Workload{Rates: []int{1}}
	ours := workload.Workload{Rows: 1, Only: []string{"streamer"}}
	for _, test := range []struct {
		contender                   contender.Contender
		inCatchUp, inSteady, inOurs bool
	}{
		{raws[contender.RawCopy], true, false, false},
		{raws[contender.RawProduce], true, true, false},
		{raws[contender.RawProduce+"-batches"], true, false, false},
		{raws[contender.RawWrite], false, true, false},
		{raws[contender.RawRequests], false, false, false},
		{contender.Baseline{}, true, true, false},
		{&contender.Streamer{}, true, true, false}, // without a name
	} {
		assert.Equal(t, test.inCatchUp, takesPart(test.contender, catchUp), test.contender.Name())
		assert.Equal(t, test.inSteady, takesPart(test.contender, steady), test.contender.Name())
		assert.Equal(t, test.inOurs, takesPart(test.contender, ours), test.contender.Name())
	}
	assert.True(t, matchesAny("streamer-stream", ours.Only))
}

// The whole benchmark, as small as possible: every kind of workload and of
// contender.
func TestRun(t *testing.T) {
	t.Parallel()
	testserver.Long(t)
	workloads := slices.DeleteFunc(
		workload.All(),
		func(w workload.Workload) bool { return w.Name != "W1" && w.Name != "W5" && w.Name != "W6" },
	)
	r, err := Open(t.Context(), Options{
		Workloads: workloads, Contenders: []string{"raw", "streamer", "baseline"},
		Scale: 0.002, Rounds: 1, Limit: 2 * time.Minute, Progress: func(line string) { t.Log(line) },
	})
	testserver.Require(t, err)
	defer func() { assert.NoError(t, r.Close()) }()
	var result report.Report
	kept := 0
	require.NoError(t, r.Run(t.Context(), &result, func() error { kept++; return nil }))
	assert.Equal(t, len(workloads), kept)

	measured := map[string]int{}
	for _, x := range result.Results {
		assert.Empty(t, x.Failure, "%s of %s", x.Contender, x.Workload)
		assert.Empty(t, x.Suspect, "%s of %s", x.Contender, x.Workload)
		measured[x.Contender]++
		if x.Latency == nil {
			assert.Positive(t, x.TotalRate, "%s of %s", x.Contender, x.Workload)
		} else {
			assert.Positive(t, x.Latency.P50, "%s of %s", x.Contender, x.Workload)
			assert.LessOrEqual(t, x.Latency.P50, x.Latency.Max, "%s of %s", x.Contender, x.Workload)
		}
	}
	const catchUps, rates = 2, 3
	assert.Equal(t, catchUps, measured[contender.RawCopy])
	assert.Equal(t, catchUps, measured[contender.RawReceive])
	for _, name := range []string{"streamer", "baseline", contender.RawProduce} {
		assert.Equal(t, catchUps+rates, measured[name], name)
	}
	assert.Equal(t, rates, measured[contender.RawWrite])
}
