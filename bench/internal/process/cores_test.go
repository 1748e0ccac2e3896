package process

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/testserver"
)

func TestParseCores(t *testing.T) {
	t.Parallel()
	for list, want := range map[string][]int{"0": {0}, "0-1": {0, 1}, "2,4-6,9": {2, 4, 5, 6, 9}} {
		got, err := parseCores(list)
		require.NoError(t, err, list)
		assert.Equal(t, want, got, list)
	}
	for _, list := range []string{"", "a", "1-", "0-b"} {
		_, err := parseCores(list)
		require.ErrorContains(t, err, "list of cores", list)
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	others, ofBroker, err := Split([]int{3, 0, 2}, 1)
	require.NoError(t, err)
	assert.Equal(t, []int{0, 2}, others)
	assert.Equal(t, []int{3}, ofBroker)
	_, _, err = Split([]int{0, 1}, 2)
	require.ErrorContains(t, err, "none remains")
}

// A process that is pinned stays on its cores, and so do its children.
func TestPin(t *testing.T) {
	t.Parallel()
	all, err := Cores(os.Getpid())
	require.NoError(t, err)
	last := all[len(all)-1:]
	child := exec.CommandContext(t.Context(), "sh", "-c", `read go; exec grep Cpus_allowed_list /proc/self/status`)
	input, err := child.StdinPipe()
	require.NoError(t, err)
	output, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	testserver.Require(t, Pin(t.Context(), child.Process.Pid, last))
	got, err := Cores(child.Process.Pid)
	require.NoError(t, err)
	assert.Equal(t, last, got)
	_, err = input.Write([]byte("\n"))
	require.NoError(t, err)
	said := make([]byte, 100)
	n, _ := output.Read(said)
	require.NoError(t, child.Wait())
	assert.Regexp(t, `^Cpus_allowed_list:\s*\d+\n$`, string(said[:n]))

	require.ErrorContains(t, Pin(t.Context(), child.Process.Pid, last), "pin process", "it has ended")
}
