package faults

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// expectation is how a fault must end.
type expectation int

const (
	// The streamer continues, or a supervisor starts it again. After healing
	// everything is there, once, in order.
	_ expectation = iota
	// refuses: the streamer ends with exit code 3 and a sentence that names
	// what is missing. Nothing is skipped.
	refuses
)

// fault is an entry of the matrix.
type fault struct {
	name  string // short, unique within its group
	what  string // one line, in an operator's words
	group string // heading in the table of results

	expect expectation
	says   []string // regular expressions, all of which the refusal must match

	since, until int  // major versions of PostgreSQL it applies to; 0: any
	fast         bool // part of make test

	settings map[string]string        // of the streamer, beyond those of every run
	postgres map[string]string        // settings of a PostgreSQL server for this fault alone; nil: a shared one
	several  bool                     // events are in two tables and in none
	brokers  int                      // of the shared Kafka cluster; 0 is 1
	kafka    *kafkatest.Options       // a cluster for this fault alone; nil: the shared one
	prepare  func(r *run)             // before the streamer starts: a proxy, a certificate
	strike   func(r *run)             // makes the fault happen while the streamer runs under load
	hold     func(r *run)             // how long it lasts before it is healed; nil: a second or so
	heal     func(r *run)             // undoes the fault; nil: there is nothing to undo
	times    func() int               // strikes in a run; nil: one
	recover  bool                     // after each strike, wait until events flow again
	forgets  bool                     // the database loses acknowledged commits, as a failover does
	refused  func(r *run)             // after the refusal: the operator's remedy; then the run continues as survives
	judge    func(r *run, f findings) // what is tolerated; nil: nothing
	patience time.Duration            // for the way back to normal; 0: [patience]
	stop     stopExpectation          // SIGTERM while the fault lasts
}

// stopExpectation says whether SIGTERM is also played while the fault lasts.
type stopExpectation int

const (
	notStopped stopExpectation = iota // the fault is momentary, or ends the process itself
	stopped                           // ends within the drain deadline, with exit code 0 or 4
)

// table holds all faults; files add theirs with register.
var table []fault

// register adds faults to the table. Use it as var _ = register(…).
func register(faults ...fault) struct{} { //nolint:unparam // its value is what var _ takes
	table = append(table, faults...)
	return struct{}{}
}

// Groups of faults, in the order of the page.
const (
	processGroup    = "The streamer's process"
	postgresGroup   = "PostgreSQL"
	networkGroup    = "Network"
	checkpointGroup = "Checkpoint store"
	kafkaGroup      = "Kafka"
)

// TestFaults plays the faults, each under load, and audits the outcome.
func TestFaults(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs servers")
	}
	for _, version := range versions() {
		t.Run("postgres="+cmp.Or(version, "default"), func(t *testing.T) {
			t.Parallel()
			for _, f := range withSnapshots(withSeveral(table)) {
				if !selected(f) {
					continue
				}
				t.Run(strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) {
					t.Parallel()
					play(t, f, version, false)
				})
				if f.stop == stopped && everything() {
					t.Run(strings.ReplaceAll(f.name, " ", "_")+"/SIGTERM", func(t *testing.T) {
						t.Parallel()
						play(t, f, version, true)
					})
				}
			}
		})
	}
}

// TestTable keeps the table in order: every entry can be played and is distinct
// from the others.
func TestTable(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	require.Len(t, withSnapshots(table), len(table)+len(underSnapshot))
	all := withSnapshots(withSeveral(table))
	for _, f := range all {
		require.NotEmpty(t, f.name)
		require.NotEmpty(t, f.what, f.name)
		require.NotEmpty(t, f.group, f.name)
		require.NotNil(t, f.strike, f.name)
		require.False(t, names[f.group+f.name], "two faults are called %q", f.name)
		names[f.group+f.name] = true
		require.Equal(t, f.expect == refuses, len(f.says) > 0, "%s: a refusal says something, and only a refusal", f.name)
		require.False(t, f.stop == stopped && f.heal == nil, "%s: what cannot be healed does not last", f.name)
	}
}

// versions returns the PostgreSQL versions to play on; "" is the default one of
// pgtest. Set STREAMER_FAULTS_POSTGRES=14,15,16,17,18.
func versions() []string {
	if list := os.Getenv("STREAMER_FAULTS_POSTGRES"); list != "" {
		return strings.Split(list, ",")
	}
	return []string{""}
}

// selected reports whether STREAMER_FAULTS asks for a fault. It is "all", a
// list of names or parts of names, or empty for the fast part.
func selected(f fault) bool {
	switch wanted := os.Getenv("STREAMER_FAULTS"); wanted {
	case "":
		return f.fast
	case "all":
		return true
	default:
		return slices.ContainsFunc(strings.Split(wanted, ","), func(part string) bool {
			return part != "" && strings.Contains(f.group+": "+f.name, part)
		})
	}
}

// everything reports whether more than the fast part is asked for.
func everything() bool { return os.Getenv("STREAMER_FAULTS") != "" }

// kills returns the number of SIGKILLs in a run: KILLS, or few in the fast
// part.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("KILLS")); err == nil && n > 0 {
		return n
	}
	if everything() {
		return 100
	}
	return 12
}

// strikes returns n strikes for a full run, and fewer for the fast part.
func strikes(n int) func() int {
	return func() int {
		if everything() {
			return n
		}
		return min(n, 3)
	}
}
