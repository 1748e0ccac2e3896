package consume

import (
	"cmp"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Config says who consumes what, and how. Name, Group and Topics are required.
type Config struct {
	// Name is under what the inbox remembers events: one name for each purpose, the
	// same in all instances of a service. Another name handles everything again.
	Name string
	// Group is the consumer group. A name belongs to one group.
	Group string
	// Topics to read.
	Topics []string
	// Types are those that the handler wants. Events of other types are passed
	// over without a transaction. Empty: all.
	Types []string

	// Concurrency is how many transactions are open at most. 16 by default.
	Concurrency int
	// Batch is how many events of one key share a transaction at most. 64 by default.
	Batch int
	// Window is how many records of a partition are read ahead of the first one
	// that is not handled. 4096 by default.
	Window int
	// Attempts is after how many failures a key is parked. 8 by default.
	Attempts int
	// Backoff is the pause after the first failure. It doubles, up to 100 times as
	// much, with a jitter. 100 ms by default.
	Backoff time.Duration
	// CommitEvery is how often offsets are committed. One second by default.
	CommitEvery time.Duration

	// Keep is how long the ledger keeps events that a range covers. 0: not at all.
	// The only use is to recognize what the streamer repeats after an operator has
	// accepted another history.
	Keep time.Duration
	// Retention is how long the ledger keeps events that no range covers. Repeats of
	// these that come later are handled again. 30 days by default.
	Retention time.Duration
	// Unsequenced says what to do with events that a replay from a table publishes.
	// They have no sequence, so that no range tells whether they were handled.
	Unsequenced Unsequenced

	// FormerPartitions is how many partitions topics had before they grew, for a
	// consumer that begins to read such a topic from before then. What happens while
	// a consumer exists it notices by itself.
	FormerPartitions map[string][]int32

	// DeadLetters takes records of parked keys, if that is requested:
	// saramagroup.DeadLetters or franzgroup.DeadLetters, for example. It returns once
	// they are stored. Nil: such requests stay open.
	DeadLetters Publisher

	Logger  *slog.Logger // slog.Default() by default
	Metrics *Metrics     // nil: none
	Tracer  trace.Tracer // nil: none
}

// Unsequenced is what becomes of replayed events without a sequence.
type Unsequenced string

// Decisions about replayed events without a sequence.
const (
	Refuse     Unsequenced = ""            // stop, and say so
	HandleOnce Unsequenced = "handle once" // handle those that are not in the ledger
	PassOver   Unsequenced = "pass over"   // take them all for repeats
)

func (c Config) withDefaults() Config {
	c.Concurrency = cmp.Or(c.Concurrency, 16)
	c.Batch = cmp.Or(c.Batch, 64)
	c.Window = cmp.Or(c.Window, 4096)
	c.Attempts = cmp.Or(c.Attempts, 8)
	c.Backoff = cmp.Or(c.Backoff, 100*time.Millisecond)
	c.CommitEvery = cmp.Or(c.CommitEvery, time.Second)
	c.Retention = cmp.Or(c.Retention, 30*24*time.Hour)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics()
	}
	if c.Tracer == nil {
		c.Tracer = noop.NewTracerProvider().Tracer("")
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Name == "":
		return advise("set Name to what these events are consumed for, such as \"billing\"", "the consumer has no name")
	case c.Group == "":
		return advise("set Group to a consumer group of this consumer's own", "the group id of consumer %q is empty", c.Name)
	case len(c.Topics) == 0:
		return advise("set Topics", "consumer %q has no topics", c.Name)
	case c.Concurrency < 1, c.Batch < 1, c.Window < 1, c.Attempts < 1, c.Backoff < 0, c.CommitEvery < 0, c.Keep < 0, c.Retention < 0:
		return advise("leave it out for its default", "a limit of consumer %q is negative", c.Name)
	case c.Unsequenced != Refuse && c.Unsequenced != HandleOnce && c.Unsequenced != PassOver:
		return advise("use one of the constants", "consumer %q: unknown Unsequenced %q", c.Name, c.Unsequenced)
	}
	return nil
}
