package process

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		want       time.Duration
		wantErr    string
	}{
		{name: "a process", text: "42 (java) S 1 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 30 0 1000", want: 1750 * time.Millisecond},
		{
			name: "a name with parentheses and spaces",
			text: "42 (postgres: wal (x) 1 2) S 1 42 42 0 -1 4194560 100 0 0 0 7 3 0 0",
			want: 100 * time.Millisecond,
		},
		{name: "no name", text: "42", wantErr: "without a name"},
		{name: "cut off", text: "42 (java) S 1 42", wantErr: "3 fields"},
		{name: "no number", text: "42 (java) S 1 42 42 0 -1 4194560 100 0 0 0 many 25 0 0", wantErr: "many"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseStat([]byte(test.text))
			if test.wantErr != "" {
				require.ErrorContains(t, err, test.wantErr)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.want, got)
		})
	}
}

func TestParseStatus(t *testing.T) {
	t.Parallel()
	got, err := parseStatus([]byte("Name:\tjava\nVmPeak:\t  900 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 1000 kB\n"))
	require.NoError(t, err)
	assert.EqualValues(t, 1234<<10, got)
	_, err = parseStatus([]byte("Name:\tjava\n"))
	require.ErrorContains(t, err, "without VmHWM")
	_, err = parseStatus([]byte("VmHWM:\tmuch kB\n"))
	require.ErrorContains(t, err, "much")
}

// The processes are this one and a child process.
func TestSampler(t *testing.T) {
	t.Parallel()
	if _, err := Children(os.Getpid()); err != nil {
		t.Skip(err) // not Linux, or a kernel without it
	}
	sampler, err := NewSampler(os.Getpid(), os.Getpid())
	require.NoError(t, err)
	defer sampler.Stop()
	child := exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done")
	require.NoError(t, child.Start())
	sampler.Watch(child.Process.Pid)
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		usage := sampler.Usage()
		if usage.Client > 0 && usage.Backends > 0 && usage.PeakMemory > 0 {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("got %+v of a process that is busy", usage)
		}
	}
	before := sampler.Usage()
	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait())
	after := sampler.Usage()
	assert.GreaterOrEqual(t, after.Client, before.Client, "the last usage seen of a process that has ended")
	assert.GreaterOrEqual(t, after.Backends, before.Backends)
}

func TestParseMachine(t *testing.T) {
	t.Parallel()
	got, err := parseMachine("cpu  100 1 50 9999 77 2 3 4 0 0\ncpu0 1 1 1 1 1 1 1 1\n")
	require.NoError(t, err)
	assert.Equal(t, 1600*time.Millisecond, got)
	for _, text := range []string{"", "cpu0 1 1 1 1 1 1 1 1", "cpu 1 2 3", "cpu a 1 50 9999 77 2 3 4 0 0"} {
		_, err := parseMachine(text)
		require.Error(t, err, text)
	}
}

func TestOthers(t *testing.T) {
	t.Parallel()
	began := time.Now()
	before := Usage{At: began, Machine: time.Hour, Harness: time.Second}
	after := Usage{
		At: began.Add(10 * time.Second), Machine: time.Hour + 15*time.Second, Harness: 2 * time.Second,
		Client: 6 * time.Second, Backends: 3 * time.Second, Broker: time.Second,
	}
	assert.InDelta(t, 0.2, after.Others(before, 2), 1e-9, "4 s of 20 s")
	assert.Zero(t, after.Others(after, 2), "no time")
	after.Machine = before.Machine
	assert.Zero(t, after.Others(before, 2), "rounding errors belong to no process")
}
