//go:build selftest

package faults

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/mutation"
)

var _ = register(fault{
	name: "early zombie", group: processGroup,
	what:    "the streamer is frozen, a standby takes over and has read back but not yet written when the frozen one wakes up",
	times:   strikes(5),
	prepare: func(r *run) { r.second() },
	strike:  (*run).earlyZombie,
})

const pausing = "pausing before the first write"

// earlyZombie wakes the frozen instance at the moment at which only the fence
// keeps it out. Its successor knows what has been published and has published
// nothing itself. The streamer under test makes that moment long.
func (r *run) earlyZombie() {
	holder := r.holder()
	other := r.other(holder)
	before := strings.Count(other.log(), pausing)
	holder.signal(syscall.SIGSTOP)
	r.until("the other instance has read back", func() bool { return strings.Count(other.log(), pausing) > before })
	holder.signal(syscall.SIGCONT)
	r.until("the other instance streams", other.streams)
	r.progress()
}

// blunder is a way of being wrong, and where it is noticed.
type blunder struct {
	faults  string // one of these has to notice, see selected
	notices string // what the audit then says, a regular expression
	pause   time.Duration
}

var blunders = map[mutation.Name]blunder{
	mutation.ConfirmBeforeAcknowledgement: {faults: "The streamer's process: SIGKILL,the only broker killed", notices: `(Lost|Early):[1-9]`},
	mutation.ConfirmBeforeSave:            {faults: "its server stopped", notices: `the streamer has ended`},
	mutation.DropOnRetry:                  {faults: "the only broker killed,Kafka: leader moved", notices: `(Lost|Early):[1-9]`},
	mutation.ReorderOnRetry:               {faults: "the only broker killed,Kafka: leader moved", notices: `Misordered:[1-9]`},
	mutation.FilterByRowLSN:               {faults: "open transaction", notices: `Lost:[1-9]|not the history that was published`},
	mutation.SkipReadBack:                 {faults: "The streamer's process: SIGKILL", notices: `Repeated:[1-9]`},
	mutation.NoFence: {
		faults:  "early zombie",
		notices: `(Repeated|Misordered):[1-9]|not the history that was published|begins at .*, after the checkpoint`,
		pause:   3 * time.Second,
	},
	mutation.SwallowDecodeError: {faults: "row without aggregate ID", notices: `goes on instead of refusing|Lost:[1-9]`},
}

// TestHarnessNotices breaks the streamer on purpose, and expects the faults to
// fail for the right reason. Unbroken, the same build passes them.
func TestHarnessNotices(t *testing.T) {
	require.Len(t, blunders, len(mutation.All()), "a way of being wrong is not tried")
	broken := filepath.Join(t.TempDir(), "streamer-that-can-be-broken")
	require.NoError(t, testserver.Build(t.Context(), "../..", "./cmd/streamer", broken, "-tags=mutation"))
	for _, name := range mutation.All() {
		b := blunders[name]
		t.Run(string(name), func(t *testing.T) {
			text, err := playBroken(t, broken, name, b)
			require.Error(t, err, "no fault notices:\n%s", tail(text, 4000))
			found := regexp.MustCompile(b.notices).FindString(text)
			assert.NotEmpty(t, found, "noticed for another reason:\n%s", tail(text, 8000))
			t.Logf("%s: noticed by %q: %s", name, b.faults, found)
		})
	}
	t.Run("unbroken", func(t *testing.T) {
		all := map[string]bool{}
		pause := time.Duration(0)
		for _, b := range blunders {
			all[b.faults] = true
			pause = max(pause, b.pause)
		}
		var names []string
		for faults := range all {
			if faults != blunders[mutation.NoFence].faults {
				names = append(names, faults)
			}
		}
		text, err := playBroken(t, broken, "", blunder{faults: strings.Join(names, ",")})
		require.NoError(t, err, tail(text, 8000))
		text, err = playBroken(t, broken, "", blunder{faults: blunders[mutation.NoFence].faults, pause: pause})
		require.NoError(t, err, tail(text, 8000))
	})
}

// playBroken plays faults with a broken streamer in a test process of its own.
func playBroken(t *testing.T, binary string, name mutation.Name, b blunder) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestFaults$", "-test.v", "-test.timeout=10m")
	cmd.Env = append(os.Environ(),
		"STREAMER_FAULTS="+b.faults, "STREAMER_FAULTS_BINARY="+binary, "STREAMER_FAULTS_RESULTS=", "KILLS=20",
		"MUTATE_STREAMER="+string(name), "MUTATE_STREAMER_PAUSE="+b.pause.String())
	text, err := cmd.CombinedOutput()
	require.NoError(t, ctx.Err(), "the faults do not end:\n%s", tail(string(text), 4000))
	return string(text), err
}
